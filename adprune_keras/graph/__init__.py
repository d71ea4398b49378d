"""What a network is: its calls, its channels, who shares them, and the network at other widths."""

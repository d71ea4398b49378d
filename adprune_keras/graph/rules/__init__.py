"""What each kind of layer makes of the channels that it reads."""

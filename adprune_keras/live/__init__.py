"""A compiled model changed while it trains. The only room that touches private Keras."""

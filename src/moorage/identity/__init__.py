"""Who asks: a Keystone, embedded or existing; a token becomes a caller."""

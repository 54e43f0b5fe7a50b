"""What a larger batch buys, in nats and in per cent."""

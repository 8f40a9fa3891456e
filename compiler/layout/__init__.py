"""Which lanes every value takes."""

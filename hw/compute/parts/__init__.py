"""What several units are made of: multipliers, registers, choices."""

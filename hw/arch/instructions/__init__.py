"""Instruction classes, one file each: fields in bit order, and the rules that they obey."""

"""Inputs that mean harm or are damaged, generated in families and given to the command line."""

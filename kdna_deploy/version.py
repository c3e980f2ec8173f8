"""The version of this package, read by its build and written into what it makes."""

VERSION = "0.1.0"

"""Moorage: a multi-tenant container cloud in one install."""

__version__ = "0.1.0"

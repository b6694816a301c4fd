"""``python -m bytenorm``: the command, where it is not on the path."""

from .cli import command

command()

"""The library under the commands: `Lab` does what every command does, without printing."""

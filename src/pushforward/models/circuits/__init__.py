"""Circuits: :class:`~pushforward.models.circuits.circuit.Circuit`, hidden trees over columns of every type."""

"""Circuits: :class:`~pushforward.models.circuits.circuit.Circuit`, hidden trees over real and integer columns."""

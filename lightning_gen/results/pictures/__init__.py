"""Pictures of what was measured, as uint8 arrays: energies, fields in the plane, neighbours."""

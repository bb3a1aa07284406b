"""Pure nouns and the round: numpy, safetensors, pydantic and the standard library only."""

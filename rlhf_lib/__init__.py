"""Fine-tuning language models from human preferences, as a kit to learn from.

The rooms, in the order in which data flows (design: a room imports only from rooms before it)::

    corpora -> tasks -> policy -> (samples) -> labels -> reward -> ppo -> (samples) -> analysis -> plots -> claims
"""

__version__ = "0.1.0"

"""Results through a card and back."""

import json
from pathlib import Path

from ecgtransfer.storage import from_card, to_card


def through_a_card(result):
    """The result as read back from the JSON text of its card."""
    text = json.dumps(to_card(result), allow_nan=False)
    return from_card(type(result), json.loads(text), Path("card.json"))

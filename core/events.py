"""Who wants to know what: the subscribers of the outbox, registered when their apps are loaded."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar


class Handler(Protocol):
    """What a subscriber does with one event; it runs in the transaction that marks its receipt done."""

    def __call__(self, *, program_id: int, payload: dict[str, Any], at: datetime) -> None:
        """Apply the event. Raise anything to have it delivered again later."""


class UnknownSubscriber(LookupError):
    """A receipt names a subscriber that this release does not have."""


H = TypeVar("H", bound=Handler)

_handlers: dict[str, dict[str, Handler]] = {}


def subscribe(topic: str, *, name: str) -> Callable[[H], H]:
    """Register the decorated handler for a topic. Receipts keep its name: renaming it orphans those that wait.

    Raises: ValueError if the topic already has another subscriber of that name.
    """

    def register(handler: H) -> H:
        if _handlers.setdefault(topic, {}).setdefault(name, handler) is not handler:
            raise ValueError(f"{topic} already has a subscriber named {name}")
        return handler

    return register


def list_subscribers(topic: str) -> list[str]:
    """Return the names of a topic's subscribers, in the order of their registration."""
    return list(_handlers.get(topic, {}))


def get_handler(topic: str, name: str) -> Handler:
    """Return a subscriber's handler.

    Raises: UnknownSubscriber if there is none of that name.
    """
    try:
        return _handlers[topic][name]
    except KeyError as error:
        raise UnknownSubscriber(f"{topic} has no subscriber named {name}") from error

"""How news travels: implementations of the EventBus contract."""

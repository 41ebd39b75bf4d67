"""The two brokers: the one that is built in, and a RabbitMQ of our own."""


class BuiltIn:
    """Sluice itself is the broker; it cannot be stopped on its own."""

    name = "builtin"
    can_stop = False

    def variables(self):
        return {}

    def agent_options(self):
        return []

    def up(self):
        return self

    def down(self):
        pass

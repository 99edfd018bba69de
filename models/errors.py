"""Every error that a user can meet.

ScalingError
├── SettingsError       a setting has a wrong value
├── InvalidEvent        a run event breaks a rule of the wire format
├── InvalidExperiment   an experiment's definition, or what is asked of it, breaks a rule
├── NotEnoughData       a law or an estimate asks for more data than there is
├── StackError          Kafka, ClickHouse or the embedded stack is not as it must be
│   ├── NotReachable    a service does not answer
│   └── PortTaken       a port that the embedded stack needs is in use
├── QueryError          ClickHouse refused a query
├── BudgetTooSmall      not even the smallest setting fits the budget
├── TargetOutOfReach    no setting is expected to reach the target
└── Fenced              a newer owner of the partition took over; this process must stop
"""


class ScalingError(Exception):
    """The base of every error of this system. Its message is one sentence that says what to do."""


class SettingsError(ScalingError):
    """A setting has a wrong value; the message names the setting, the value and the rule."""


class InvalidEvent(ScalingError):  # noqa: N818 - the noun of the field: an invalid event
    """A run event breaks a rule of the wire format; the message names the field and the rule."""


class InvalidExperiment(ScalingError):  # noqa: N818 - an invalid experiment, as an invalid event
    """An experiment's definition, or what is asked of it, breaks a rule; the message names value and rule."""


class NotEnoughData(ScalingError):  # noqa: N818 - the field's standard term
    """An estimate asks for more data than there is; the message says what is missing."""


class StackError(ScalingError):
    """Kafka, ClickHouse or the embedded stack is not as it must be."""


class NotReachable(StackError):  # noqa: N818
    """A service does not answer; the message names its address and what to start."""


class PortTaken(StackError):  # noqa: N818
    """A port that the embedded stack needs is in use; the message names it."""


class QueryError(ScalingError):
    """ClickHouse refused a query; the message is the server's own."""


class Fenced(ScalingError):  # noqa: N818 - Kafka's term
    """A newer owner of the partition took over; this process must stop without writing."""


class BudgetTooSmall(ScalingError):  # noqa: N818 - says what is wrong, not that something is
    """Not even the smallest setting fits the budget; the message names the least budget that would do."""


class TargetOutOfReach(ScalingError):  # noqa: N818
    """No setting is expected to reach the target; the message names the best reachable."""

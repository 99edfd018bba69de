"""How laws are fitted, as the settings say."""

from analytics.published import Fitting
from models.settings import Settings


def fitting_of(settings: Settings) -> Fitting:
    """Take what a fit needs from the settings."""
    return Fitting(
        draws=settings.bootstrap_draws,
        value_of_success=settings.value_of_success,
        agent_cost=settings.agent_cost,
        iteration_cost=settings.iteration_cost,
        context_cost_per_1k=settings.context_cost_per_1k,
    )

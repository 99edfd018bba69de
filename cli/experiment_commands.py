"""`scaling experiment` with planning and the demo."""

from cli import experiment, experiment_demo, experiment_planning

app = experiment.app
app.command("plan")(experiment_planning.plan)
app.command("suggest")(experiment_planning.suggest)
app.command("demo")(experiment_demo.demo)

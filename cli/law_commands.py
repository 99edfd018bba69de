"""`scaling laws` with what else there is to do with laws."""

from cli import comparing, laws, verify

app = laws.app
app.command("verify")(verify.verify)
app.command("compare")(comparing.compare)

"""The dashboard of log lines, from Loki: what Alloy sends there has the labels service and level, and the trace id."""

from grafana.panels import dashboard, line, lines, logs, number, typed

_OF_TRACE = '{service=~".+"} | trace_id=~"$trace.*"'
LOGS = (
    dashboard(
        "logs",
        "Logs",
        "What do the processes say? Put a trace id into *trace* to follow one quote from its fetch to the message.",
        number(
            "Errors",
            "Lines of the level *error* in the chosen time.",
            "short",
            line('sum(count_over_time({service=~".+", level="error"}[$__range]))', is_now=True),
            bad=1,
        ),
        number(
            "Warnings",
            "Lines of the level *warning* in the chosen time.",
            "short",
            line('sum(count_over_time({service=~".+", level="warning"}[$__range]))', is_now=True),
        ),
        lines(
            "Lines by level",
            "Lines of our own processes; those of other programs have no level.",
            "short",
            line('sum by (level) (count_over_time({service=~".+"}[$__auto]))', "{{level}}"),
        ),
        lines(
            "Lines by service",
            "Who writes how much: a process that is stuck in a loop stands out.",
            "short",
            line('sum by (service) (count_over_time({service=~".+"}[$__auto]))', "{{service}}"),
            width=24,
        ),
        logs(
            "Errors and warnings",
            "The newest ones. A line opens to its fields, with a link to its trace.",
            line('{service=~".+", level=~"error|critical|warning"} | json | line_format "{{.message}}"'),
        ),
        logs(
            "Lines of a trace",
            "Those whose trace id begins with what *trace* says; all lines where it is empty.",
            line(_OF_TRACE),
            height=14,
        ),
        choices=[typed("trace", "trace")],
    ),
)

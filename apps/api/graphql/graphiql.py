"""The page on which people write queries: GraphiQL, with examples that can be run."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from csp.decorators import csp_update
from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static

CDN = "https://cdn.jsdelivr.net"


@dataclass(frozen=True, slots=True)
class File:
    """A file of an npm package. served: the folder of the package that settings let out; integrity: of its bytes,
    wherever they come from."""

    package: str
    version: str
    path: str
    served: str
    integrity: str

    @property
    def local(self) -> str:
        """Return its name among the static files."""
        return f"npm/{self.package}/{self.path.removeprefix(self.served)}"

    @property
    def remote(self) -> str:
        """Return its address at the CDN."""
        return f"{CDN}/npm/{self.package}@{self.version}/{self.path}"


# In the order in which they are loaded. Versions are those of package-lock.json.
SCRIPTS = [
    File(
        "react",
        "18.3.1",
        "umd/react.production.min.js",
        "umd/",
        "sha384-DGyLxAyjq0f9SPpVevD6IgztCFlnMF6oW/XQGmfe+IsZ8TqEiDrcHkMLKI6fiB/Z",
    ),
    File(
        "react-dom",
        "18.3.1",
        "umd/react-dom.production.min.js",
        "umd/",
        "sha384-gTGxhz21lVGYNMcdJOyq01Edg0jhn/c22nsx0kyqP0TxaV5WVdsSH1fSDUf5YJj1",
    ),
    File(
        "graphiql",
        "3.9.0",
        "graphiql.min.js",
        "",
        "sha384-8NGfVj4CVlqHajlZj+bPJT4thxPMHMJYn7DWK2CvtopLd02E7qsPHazniBYvVjOO",
    ),
]
STYLES = [
    File(
        "graphiql",
        "3.9.0",
        "graphiql.min.css",
        "",
        "sha384-QMux00XgRtwRLSYIY3kw2rj1ovk5AuuliAchk+HSQbqdbGFnz9GYuqIlOqxhwCE2",
    ),
]

# (what the button says, the query).
EXAMPLES = [
    ("Bitcoin", 'query { asset(id: "BTC") { name price variation24h } }'),
    (
        "All prices",
        "query Prices {\n  assets(first: 10) {\n    edges { node { symbol name price priceAt variation24h } }\n"
        "    pageInfo { hasNextPage endCursor }\n  }\n}",
    ),
    (
        "Rules, and where they stand",
        "query Rules {\n  rules(first: 10) {\n    edges {\n      node {\n        name severity description\n"
        "        states(first: 5) { edges { node { asset { symbol } state since unknown } } }\n"
        "      }\n    }\n  }\n}",
    ),
    (
        "Alerts, and why",
        "query Alerts {\n  alerts(first: 5) {\n    edges {\n      node {\n"
        "        summary severity state openedAt resolvedAt\n        rule { name description }\n"
        "        evidence\n        timeline { kind at reason by entry { feed seq traceId } }\n"
        "        messages(first: 3) { edges { node { subject status channel { name } } } }\n"
        "      }\n    }\n  }\n}",
    ),
    (
        "Was I notified, and when",
        "query Notified {\n  alerts(first: 5, order: NEWEST_FIRST) {\n    edges {\n      node {\n        summary\n"
        "        notifications(first: 5) {\n          edges {\n            node {\n"
        "              event status reason dueAt deliveredAt channel { name }\n"
        "              attempts { number startedAt outcome reason }\n            }\n          }\n        }\n"
        "      }\n    }\n  }\n}",
    ),
    (
        "Single prices of an asset, and my alerts on it",
        'query Quotes {\n  asset(id: "BTC") {\n    name\n'
        "    quotes(first: 20) { edges { node { at price volume late provider } } pageInfo { endCursor } }\n"
        "    alerts(first: 5, isOpen: true) { edges { node { summary openedAt } } }\n  }\n}",
    ),
    (
        "Logs of feeds, for operators",
        "query Entries {\n  feeds(first: 5) {\n    edges {\n      node {\n        name\n"
        "        entries(first: 10) {\n"
        "          edges { node { seq kind receivedAt provider failure accepted late rejected evaluatedAt } }\n"
        "        }\n      }\n    }\n  }\n}",
    ),
    (
        "Inbox",
        "query Inbox {\n  me { username }\n  messages(inboxOnly: true, first: 5) {\n"
        "    edges { node { subject text deliveredAt alerts { state asset { symbol price } } } }\n  }\n}",
    ),
    (
        "What my portfolios are worth",
        "query Worth {\n  portfolios(first: 5) {\n    edges {\n      node {\n"
        "        name baseCurrency\n        worth { value knownValue missing { what of } }\n"
        "        positions(first: 10) {\n          edges { node { asset { symbol } quantity worth { value gain } } }\n"
        "        }\n      }\n    }\n  }\n}",
    ),
    (
        "How fast quotes are evaluated",
        "query Metrics {\n  metrics(query: EVALUATION_P95) {\n    unit\n"
        "    series { labels { name value } at values }\n    error { code message }\n  }\n}",
    ),
    (
        "Errors in the log, for operators",
        "query Errors {\n  logs(query: {level: ERROR}, limit: 20) {\n    lines { at service message traceId }\n"
        "    error { code message }\n  }\n}",
    ),
    (
        "Follow prices",
        'subscription Follow {\n  quoteUpdated(assets: ["BTC-USD"]) { asset { symbol } price at }\n}',
    ),
    (
        "Follow alerts",
        "subscription FollowAlerts {\n  alertChanged { event { kind at } alert { summary severity state } }\n}",
    ),
    # Examples of mutations do little harm, since people may run them without reading them: the rule is disabled.
    (
        "Create a rule, disabled",
        'mutation MakeRule {\n  createRule(\n    idempotencyKey: "example-rule"\n    name: "Crypto falls"\n'
        '    document: {\n      assets: {tag: "crypto"}\n'
        '      condition: {kind: "falls", percent: "5", window: "1h"}\n      enabled: false\n    }\n  ) {\n'
        "    rule { id name description }\n    errors { field code message }\n  }\n}",
    ),
    (
        "Acknowledge an alert",
        'mutation Acknowledge {\n  acknowledgeAlert(\n    id: "00000000-0000-0000-0000-000000000000"\n'
        '    note: "I look into it."\n  ) {\n'
        "    alert { summary state acknowledgedBy note }\n    errors { field code message }\n  }\n}",
    ),
    (
        "End a silence",
        'mutation EndSilence {\n  endSilence(id: "00000000-0000-0000-0000-000000000000") {\n'
        "    silence { comment endsAt }\n"
        "    errors { field code message }\n  }\n}",
    ),
]

# Beyond the site's policy: CodeMirror and the menus place themselves by style elements; the fonts stand in the CSS.
_POLICY = {"style-src": ["'unsafe-inline'"], "font-src": ["data:"], "img-src": ["data:"]}
_POLICY_WITH_CDN = _POLICY | {"style-src": ["'unsafe-inline'", CDN], "script-src": [CDN]}


def page(request: HttpRequest) -> HttpResponse:
    """Show GraphiQL from our own files; without them, from the CDN; without that, a plain form."""
    is_local = all(finders.find(file.local) for file in (*SCRIPTS, *STYLES))
    context = {
        "is_local": is_local,
        "scripts": [(static(file.local) if is_local else file.remote, file.integrity) for file in SCRIPTS],
        "styles": [(static(file.local) if is_local else file.remote, file.integrity) for file in STYLES],
        "examples": EXAMPLES,
        "stream": settings.STREAM_URL,
        "first_query": EXAMPLES[0][1],
    }
    stream = urlsplit(settings.STREAM_URL)
    connecting = {"connect-src": [f"{stream.scheme}://{stream.netloc}"]}
    policed = csp_update((_POLICY if is_local else _POLICY_WITH_CDN) | connecting)
    return policed(render)(request, "api/graphiql.html", context)

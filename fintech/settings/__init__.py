"""Says "for this machine". Everything that may differ between machines is an environment variable (env.py lists
them)."""

import logging
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.templatetags.static import static

from fintech.settings import env

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VAR_DIR = (BASE_DIR / env.text("VAR_DIR")).resolve()
LIVENESS_DIR = (BASE_DIR / env.text("LIVENESS_DIR")).resolve() if env.text("LIVENESS_DIR") else None

DEBUG = env.boolean("DJANGO_DEBUG")
SITE_URL = env.url("SITE_URL", schemes={"http", "https"}).rstrip("/")
STREAM_URL = env.url("STREAM_URL", schemes={"http", "https"}, optional=True, bare=True) or f"{SITE_URL}/graphql/stream"
CELERY_BROKER_URL = env.url("CELERY_BROKER_URL", schemes={"amqp", "amqps", "memory"})
REDIS_URL = env.url("REDIS_URL", schemes={"redis", "rediss"}, optional=True)
DATABASES = {"default": env.database("DATABASE_URL", default_file=VAR_DIR / "fintech.sqlite3")}
replica = env.replica("DATABASE_REPLICA_URL", primary=DATABASES["default"])
if replica is not None:
    # A run of tests makes no database there.
    DATABASES["replica"] = replica | {"TEST": {"MIRROR": "default"}}
    DATABASE_ROUTERS = ["apps.replica.Router"]

ON_SQLITE = DATABASES["default"]["ENGINE"].endswith("sqlite3")
EMBEDDED = ON_SQLITE and CELERY_BROKER_URL.startswith("memory:")
SECRET_KEY = env.secret_key("DJANGO_SECRET_KEY", debug=DEBUG, embedded=EMBEDDED, folder=VAR_DIR)
if not DEBUG:
    for name in ("DATABASE_URL", "DATABASE_REPLICA_URL", "CELERY_BROKER_URL", "REDIS_URL"):
        env.refuse_well_known_passwords(name)

ALLOWED_HOSTS = [*env.site_hosts("DJANGO_ALLOWED_HOSTS", debug=DEBUG), urlsplit(SITE_URL).hostname]
# The site's pages follow at STREAM_URL, which may be another port.
CSRF_TRUSTED_ORIGINS = [
    *env.origins("DJANGO_CSRF_TRUSTED_ORIGINS"),
    "{0.scheme}://{0.netloc}".format(urlsplit(SITE_URL)),
]

# The web's edge. Where people reach the site by https, they reach it by nothing else.
IS_HTTPS = SITE_URL.startswith("https://")
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_HSTS_SECONDS = 365 * 86_400 if IS_HTTPS else 0
# Who asks for health or metrics stands beside the process, and speaks no TLS.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^status$", r"^metrics$"]
# Subdomains of SITE_URL, and the browsers' built-in list, are the matter of who runs the domain, not of this site.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
TRUST_PROXY_HEADERS = env.boolean("TRUST_PROXY_HEADERS")
if TRUST_PROXY_HEADERS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_COOKIE_HTTPONLY = True  # Session cookies are by default; both are SameSite=Lax.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000  # bytes of a form; the longest of ours are texts of a few kB.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
    }
}
# What the admin's pages need beyond that: they are drawn by Alpine.js, which evaluates expressions in attributes.
ADMIN_CONTENT_SECURITY_POLICY = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}

if ON_SQLITE:
    DATABASES["default"] |= {
        "ENGINE": "fintech.counted_sqlite",
        "OPTIONS": {
            # A transaction that will write takes the lock at once, instead of failing half-way through.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
        },
        # Said here since processes of tests side by side take an engine of another name for one with files.
        "TEST": {"NAME": ":memory:"},
    }
else:
    postgresql = {
        # Django's own, its statements counted and timed.
        "ENGINE": "fintech.counted_postgresql",
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 3,
            # A server that vanishes without a word (a cable, a firewall) is noticed within 30 seconds, while an answer
            # is waited for and while something is sent. The system's defaults are two hours and a quarter of an hour.
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # Without JIT: statements name hundreds of partitions and read few rows, and compiling them takes seconds.
            "options": "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000 "
            "-c jit=off",
        },
    }
    # One that vanishes is noticed sooner, since the primary can be read instead.
    network = {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 8_000}
    for alias, database in DATABASES.items():
        ours = postgresql["OPTIONS"] | (network if alias == "replica" else {})
        # The URL's win: in `options` too, of which the server takes the last of a name.
        theirs = database.get("OPTIONS", {})
        if "options" in theirs:
            theirs["options"] = f"{ours['options']} {theirs['options']}"
        database.update(postgresql, OPTIONS=ours | theirs)

# The market. What is not an environment variable here is a decision, not a knob.
ANALYSIS_SHARDS = env.integer("ANALYSIS_SHARDS", lowest=1, highest=64)
QUOTE_RETENTION_DAYS = env.integer("QUOTE_RETENTION_DAYS", lowest=1, highest=3650)
# Read from the environment by the providers too, which know no Django: here it is refused where it is wrong.
PROVIDER_ANSWER_LIMIT_BYTES = env.integer("PROVIDER_ANSWER_LIMIT_BYTES", lowest=10_000, highest=100_000_000)
MINUTE_CANDLE_RETENTION_DAYS = env.integer("MINUTE_CANDLE_RETENTION_DAYS", lowest=1, highest=36_500)
TRANSITION_RETENTION_DAYS = env.integer("TRANSITION_RETENTION_DAYS", lowest=1, highest=3650)
MARKET_IS_PUBLIC = env.boolean("MARKET_IS_PUBLIC")
_COUNTED_BY = ["token", "user", "address"]
GRAPHQL_REQUESTS_AT_ONCE = env.numbers_of("GRAPHQL_REQUESTS_AT_ONCE", _COUNTED_BY)
GRAPHQL_REQUESTS_PER_MINUTE = env.numbers_of("GRAPHQL_REQUESTS_PER_MINUTE", _COUNTED_BY)
TRUSTED_DOCUMENTS = env.text("TRUSTED_DOCUMENTS")
TRUSTED_DOCUMENTS_ONLY = env.boolean("TRUSTED_DOCUMENTS_ONLY")
if TRUSTED_DOCUMENTS_ONLY and not TRUSTED_DOCUMENTS:
    env.refuse("TRUSTED_DOCUMENTS_ONLY", "is true, and TRUSTED_DOCUMENTS names no folder")
RULES_PER_OWNER = 1_000

# Notifications. A link in a message works for a week, and a channel's page counts what failed in one.
MESSAGE_RETENTION_DAYS = env.integer("MESSAGE_RETENTION_DAYS", lowest=8, highest=36_500)
# Empty: what channels keep secret is encrypted with SECRET_KEY.
CHANNEL_ENCRYPTION_KEYS = env.keys("CHANNEL_ENCRYPTION_KEYS", debug=DEBUG)
# Where people may have things sent: to the public internet at these ports, and to these places besides.
OUTBOUND_PORTS = env.ports("OUTBOUND_PORTS")
OUTBOUND_ALLOW = env.places("OUTBOUND_ALLOW")
SLACK_HOSTS = env.hosts("SLACK_HOSTS")
TELEGRAM_API_URL = env.url("TELEGRAM_API_URL", schemes={"http", "https"}, bare=True).rstrip("/")

# The demo has none.
CANARY = env.boolean("CANARY") and not EMBEDDED
HEARTBEAT_URL = env.url("HEARTBEAT_URL", schemes={"http", "https"}, optional=True)

METRICS_LISTEN = env.listen("METRICS_LISTEN")
LOGS_URL = env.url("LOGS_URL", schemes={"http", "https"}, optional=True)
# Asked by /graphql.
LOKI_URL = env.url("LOKI_URL", schemes={"http", "https"}, optional=True, bare=True)
PROMETHEUS_URL = env.url("PROMETHEUS_URL", schemes={"http", "https"}, optional=True, bare=True)
TRACES_URL = env.url("TRACES_URL", schemes={"http", "https"}, optional=True, bare=True)
# Read from the environment by apps.spans too, which knows no Django: here they are refused where they are wrong.
OTLP_ENDPOINT = env.url("OTEL_EXPORTER_OTLP_ENDPOINT", schemes={"http", "https"}, optional=True)
TRACES_ONE_IN = env.integer("TRACES_ONE_IN", lowest=1, highest=1_000_000)

# Who signs in, and by what. Empty: by a password alone.
OIDC_ISSUER = env.url("OIDC_ISSUER", schemes={"http", "https"}, optional=True, bare=True)
OIDC_NAME = env.text("OIDC_NAME")
OIDC_MATCH_EMAIL = env.boolean("OIDC_MATCH_EMAIL")
PASSWORD_SIGN_IN = env.boolean("PASSWORD_SIGN_IN")
TWO_FACTOR_REQUIRED = env.choice("TWO_FACTOR_REQUIRED", {"off", "staff", "everyone"})
if len(OIDC_ISSUER) > 200:
    env.refuse("OIDC_ISSUER", "is longer than 200 characters")
if not PASSWORD_SIGN_IN and not OIDC_ISSUER:
    env.refuse("PASSWORD_SIGN_IN", "is false, and OIDC_ISSUER names no provider: nobody could sign in")
OIDC_CLIENT_ID, OIDC_CLIENT_SECRET = env.text("OIDC_CLIENT_ID"), env.text("OIDC_CLIENT_SECRET")
if OIDC_ISSUER and not OIDC_CLIENT_ID:
    env.refuse("OIDC_CLIENT_ID", "is missing; OIDC_ISSUER names a provider, which knows this site by it")
if OIDC_ISSUER and not OIDC_CLIENT_SECRET:
    env.refuse("OIDC_CLIENT_SECRET", "is missing; OIDC_ISSUER names a provider, which asks for it")

EMAIL_CONFIGURED = bool(env.text("EMAIL_URL"))
globals().update(env.email("EMAIL_URL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("EMAIL_FROM")

INSTALLED_APPS = [
    # First, since its templates of an empty list and of the admin's index replace Unfold's.
    "apps.panel",
    "django_prometheus",
    "unfold",
    # Its pages are imported with the addresses, which workers that write no links never need.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "apps.accounts",
    "apps.market",
    "apps.sources",
    "apps.portfolios",
    "apps.rules",
    "apps.backtests",
    "apps.alerts",
    "apps.notify",
    "apps.health",
    "apps.metrics",
    "apps.setup",
    "apps.pipeline",
    "apps.api",
    "apps.site",
]
MIDDLEWARE = [
    # First and last: between the two is the time of a request.
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "apps.site.middleware.number_requests",
    "apps.site.middleware.trace_requests",
    "django.middleware.security.SecurityMiddleware",
    "apps.site.middleware.Compressed",
    "apps.site.static_files.cache_static",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "apps.site.middleware.ContentSecurityPolicy",
    "apps.site.middleware.refuse_nul",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.site.unavailable.Unavailable",
    "apps.site.middleware.ActiveReader",
    "apps.site.middleware.WrongAddress",
    "apps.site.middleware.RequiredSecondFactor",
    "allauth.account.middleware.AccountMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.site.context.inbox",
            ]
        },
    }
]
PASSWORD_HASHERS = ["apps.accounts.hashers.BoundedHasher"]
AUTHENTICATION_BACKENDS = ["apps.accounts.backends.LimitedBackend"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
# Of allauth are used: the steps of signing in, second factors, and single sign-on. Passwords, limits and pages are this
# site's own (ADR 94).
ACCOUNT_ADAPTER = "apps.site.adapters.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_RATE_LIMITS = False
MFA_ADAPTER = "apps.site.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Fake Fintech OSS"
MFA_TOTP_PERIOD = 30
MFA_RECOVERY_CODE_COUNT = 10
SOCIALACCOUNT_ADAPTER = "apps.site.adapters.SingleSignOnAdapter"
ROOT_URLCONF = "fintech.urls"
WSGI_APPLICATION = "fintech.wsgi.application"
# By name, since the demo, which runs it, stands beside the API and does not import it.
STREAM_SERVER = "apps.api.live.server.LiveServer"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True
FORMAT_MODULE_PATH = "fintech.formats"

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
# No collectstatic step between a clone and a page: the files are served from where the packages keep them.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "apps.site.static_files.HashedFiles"},
}
# Files of npm, where `make venv` has put them. Without GraphiQL's its page takes them from a CDN; without
# lightweight-charts assets have a plain chart.
STATICFILES_DIRS = [
    (f"npm/{package}", folder)
    for package, folder in (
        ("graphiql", BASE_DIR / "node_modules/graphiql"),
        ("react", BASE_DIR / "node_modules/react/umd"),
        ("react-dom", BASE_DIR / "node_modules/react-dom/umd"),
        ("lightweight-charts", BASE_DIR / "node_modules/lightweight-charts/dist"),
    )
    if folder.is_dir()
]

UNFOLD = {
    "SITE_TITLE": "Fake Fintech OSS",
    "SITE_HEADER": "Fake Fintech OSS",
    "SITE_URL": "/",
    "SHOW_HISTORY": False,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("site/icon.svg")}],
    "SIDEBAR": {"navigation": "apps.panel.navigation.groups"},
    "STYLES": [lambda request: static("panel/admin.css")],
    "SCRIPTS": [lambda request: static("panel/accessible.js")],
    "DASHBOARD_CALLBACK": "apps.panel.dashboard.add_dashboard",
}

# The engine, which knows no settings, reads it again (apps/rules/engine/core.py).
env.choice("ENGINE", {"auto", "pure"})

# Warnings are lines too.
logging.captureWarnings(True)
LOG_LEVEL = env.choice("LOG_LEVEL", {"DEBUG", "INFO", "WARNING", "ERROR"})
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # An embedded run is watched by a person.
    "formatters": {"lines": {"()": f"fintech.logs.{'readable' if EMBEDDED else 'json'}_lines"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "lines"}},
    "root": {"handlers": ["stdout"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers would write each line of it once more in debugging, as it is, links that act included.
        "django": {"handlers": []},
        # It repeats each line of the worker and prints results.
        "celery.app.trace": {"level": "WARNING"},
        # A line for each request that waits for a thread.
        "waitress.queue": {"level": "ERROR"},
    },
}

"""Django settings. Every value that differs between environments is read in this file through `config.env`,
and every variable is in the README's table."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF

from apps.users import oidc
from config import env
from config.logs import logging_settings

BASE_DIR = Path(__file__).resolve().parent.parent

DEMO = env.flag("DEMO")
DEBUG = env.flag("DEBUG")
SECRET_KEY = env.secret_key()
SECRET_KEY_FALLBACKS = env.secret_words("SECRET_KEY_FALLBACKS")  # earlier keys, while they are being replaced
BASE_URL = env.base_url()  # the one address people use, e.g. https://gatehouse.example.com
IS_HTTPS = BASE_URL.startswith("https://")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", env.hosts(BASE_URL))
CSRF_TRUSTED_ORIGINS = [BASE_URL]
COMPANY = env.text("COMPANY", "Your company")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "config.static.CollectedFiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "allauth.usersessions",
    "csp",
    "django_htmx",
    "pgtrigger",
    "template_partials.apps.SimpleAppConfig",
    "apps.audit",
    "apps.core",
    "apps.users",
    "apps.inventory",
    "apps.rules",
    "apps.grants",
    "apps.access",
    "apps.reviews",
    "apps.evidence",
    "apps.insights",
    "apps.notifications",
    "apps.scim",
]
if DEMO:
    INSTALLED_APPS.append("apps.demo")

MIDDLEWARE = [
    "apps.core.middleware.NoNulInAddress",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "apps.core.middleware.PermissionsPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.users.middleware.RequestContext",
    "apps.core.middleware.NoStore",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apps.core.middleware.HtmxAuthRedirect",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "builtins": ["template_partials.templatetags.partials", "apps.core.templatetags.components"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.core.context.shell",
                "apps.grants.context.only_narrowing",
                *(["apps.demo.context.demo"] if DEMO else []),
            ],
            "loaders": [
                (
                    "template_partials.loader.Loader",
                    [
                        (
                            "django.template.loaders.cached.Loader",
                            [
                                "django.template.loaders.filesystem.Loader",
                                "django.template.loaders.app_directories.Loader",
                            ],
                        )
                    ],
                )
            ],
        },
    }
]

DATABASES = {"default": env.database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ATOMIC_REQUESTS = False  # services open their own transactions: one decision, one audit event

REDIS_URL = env.redis_url(0)
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": env.redis_url(2),
        "OPTIONS": {"serializer": "config.cache.JsonSerializer"},
    }
}

CELERY_BROKER_URL = env.celery_url(0)
CELERY_TASK_IGNORE_RESULT = True  # state lives in our own rows; Celery is a wake-up call
CELERY_TASK_ACKS_LATE = True  # a killed worker's task comes back; every task is idempotent
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker as long as it takes
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "queue_order_strategy": "priority",  # the order of config.celery.QUEUES, not in turn
    "socket_connect_timeout": 2,  # a page that enqueues does not hang on a dead broker
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"  # the table in config/celery.py, no file of its own
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TIMEZONE = "UTC"

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["apps.users.backends.PasswordBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"

# Signing in. allauth's own doors are open; these settings, apps/users/adapters.py and accounts.py close them.
ACCOUNT_ADAPTER = "apps.users.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]  # for nobody: the adapter keeps sign-up closed
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # strangers cannot make us send mail
ACCOUNT_EMAIL_NOTIFICATIONS = True  # a changed password or authenticator is announced
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = BASE_URL.split(":")[0]
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_CHANGE_EMAIL = False
ACCOUNT_MAX_EMAIL_ADDRESSES = 1
ACCOUNT_SESSION_REMEMBER = True  # SESSION_COOKIE_AGE decides, not a tick box
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False  # of this session; Django ends all others
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
PASSWORD_RESET_TIMEOUT = 24 * 3600
USERSESSIONS_TRACK_ACTIVITY = False  # the audit log has the addresses; a write on every request has no reader

MFA_ADAPTER = "apps.users.adapters.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_USER_VERIFICATION = "required"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_HTTPS  # which env.base_url allows on localhost only
MFA_TOTP_ISSUER = "Gatehouse"
MFA_TOTP_TOLERANCE = 1  # a code may be one period old or early; apps/users/totp.py lets it count once
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_FORMS = {
    "authenticate": "apps.users.forms.AuthenticateForm",
    "reauthenticate": "apps.users.forms.ReauthenticateForm",
}
# A new authenticator counts for step-up only after this time, the first one too: whoever enrols one on a stolen session
# has to wait until its owner has read the mail about it.
STEP_UP_WAITING_TIME = timedelta(hours=env.number("STEP_UP_WAITING_HOURS", 0 if DEMO else 24))
DEVICE_COOKIE_NAME = "__Host-gatehouse_device" if IS_HTTPS else "gatehouse_device"

# Single sign-on, when an issuer is named. Passwords then work for emergency users only.
OIDC_ISSUER = env.text("OIDC_ISSUER")
OIDC_NAME = env.text("OIDC_NAME", "single sign-on")
OIDC_ORIGINS = [oidc.origin(OIDC_ISSUER), *env.words("OIDC_ORIGINS")] if OIDC_ISSUER else []
SOCIALACCOUNT_ADAPTER = "apps.users.adapters.SocialAccountAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False  # an e-mail address proves nothing: issuer and subject do
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = False
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_PROVIDERS = oidc.providers(
    issuer=OIDC_ISSUER,
    client_id=env.text("OIDC_CLIENT_ID"),
    client_secret=env.secret("OIDC_CLIENT_SECRET"),
    name=OIDC_NAME,
)

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
NODE_MODULES = BASE_DIR / "node_modules"
STATIC_FILES = {  # where pages find them under STATIC_URL
    "": BASE_DIR / "static",
    "vendor/tabler/css": NODE_MODULES / "@tabler/core/dist/css",
    "vendor/tabler/js": NODE_MODULES / "@tabler/core/dist/js",
    "vendor/inter": NODE_MODULES / "@fontsource-variable/inter",
}
STATICFILES_DIRS = [(prefix, path) if prefix else path for prefix, path in STATIC_FILES.items() if path.is_dir()]
# From the source as it is (no collectstatic), or collected, compressed and named by content.
STATIC_FROM_SOURCE = env.flag("STATIC_FROM_SOURCE", DEBUG or DEMO)
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = STATIC_FROM_SOURCE
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # nothing is uploaded
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if STATIC_FROM_SOURCE
        else "config.static.HashedFiles"
    },
}

vars().update(env.email())  # EMAIL_BACKEND, EMAIL_HOST and so on
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Gatehouse <gatehouse@localhost>")

AWS_CONSOLES = [f"https://*.{domain}" for domain in ("aws.amazon.com", "amazonaws-us-gov.com", "amazonaws.cn")]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # data: is the TOTP QR code
        "font-src": [SELF],
        "connect-src": [SELF],
        # Browsers follow a form's redirects under it: to the identity provider, and into the AWS console.
        "form-action": [SELF, *OIDC_ORIGINS, *AWS_CONSOLES],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", IS_HTTPS)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]  # asked from inside, over plain HTTP
SECURE_HSTS_SECONDS = env.number("SECURE_HSTS_SECONDS", 31_536_000 if IS_HTTPS else 0)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # other hosts of the domain are not ours to decide about
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
# __Host- makes the browser refuse a cookie of that name from a neighbouring subdomain.
SESSION_COOKIE_NAME = "__Host-gatehouse_session" if IS_HTTPS else "gatehouse_session"
CSRF_COOKIE_NAME = "__Host-gatehouse_csrf" if IS_HTTPS else "gatehouse_csrf"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env.number("SESSION_HOURS", 12) * 3600

# How many proxies stand before us. Only then are their headers believed.
ALLAUTH_TRUSTED_PROXY_COUNT = env.number("TRUSTED_PROXY_COUNT", 0)
if ALLAUTH_TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# A review is launched only from a complete sync that is not older.
REVIEW_DATA_MAX_AGE = timedelta(hours=env.number("REVIEW_DATA_MAX_AGE_HOURS", 24))

# Where the broker listens, which makes sessions for grants (manage.py broker), and what it and the web know each other by.
BROKER_SOCKET = env.text("BROKER_SOCKET")
BROKER_KEY = env.secret("BROKER_KEY")

# Where the clock keeps a copy of what is needed to end everything without the database.
LEDGER_PATH = env.text("LEDGER_PATH")

# Reading AWS into the inventory.
SYNC_EVERY_MINUTES = env.number("SYNC_EVERY_MINUTES", 15)
FULL_SYNC_EVERY_MINUTES = env.number("FULL_SYNC_EVERY_MINUTES", 360)  # where a change feed tells what changed meanwhile
METRICS_TOKEN = env.secret("METRICS_TOKEN")  # what Prometheus shows; without one there is no /metrics
AWS_BUDGET = env.aws_budget()  # who keeps count of what we ask of AWS
RECONCILE_EVERY_MINUTES = env.number("RECONCILE_EVERY_MINUTES", 15)
LEAVERS_MOST = env.number("LEAVERS_MOST", 10)  # more within a day wait for two administrators
LEAVERS_MOST_PERCENT = env.number("LEAVERS_MOST_PERCENT", 10)  # of the people of a connection; more wait too
MOVERS_MOST = env.number("MOVERS_MOST", 20)  # more within a day are a reorganisation: administrators launch the reviews
DRIFT_MOST_REPAIRS = env.number("DRIFT_MOST_REPAIRS", 10)  # more at once wait for two administrators
DRIFT_MOST_PERCENT = env.number("DRIFT_MOST_PERCENT", 30)  # of what grants hold; more at once wait too
# What counts as a finding.
STALE_KEY_DAYS = env.number("STALE_KEY_DAYS", 90)  # an access key that is older
UNUSED_DAYS = env.number("UNUSED_DAYS", 90)  # access whose last use is known and longer ago
SYNC_READERS = env.number("SYNC_READERS", 8)  # accounts that are read at the same time
SCANS_KEPT_DAYS = env.number("SCANS_KEPT_DAYS", 30)  # what runs said of each account; the runs themselves stay
# What the audit trail says.
TRAIL_EVERY_MINUTES = env.number("TRAIL_EVERY_MINUTES", 60)
TRAIL_BACKFILL_DAYS = env.number("TRAIL_BACKFILL_DAYS", 90)  # how far the first reading of a trail goes back
USAGE_KEPT_DAYS = env.number("USAGE_KEPT_DAYS", 400)
USAGE_PROPOSAL_DAYS = env.number(
    "USAGE_PROPOSAL_DAYS", 90
)  # whole days that a smaller policy is proposed from, at least
STACK_TAGS = env.words("STACK_TAGS", ["aws:cloudformation:stack-name", "terraform-stack", "terraform-workspace"])
OWNER_TAGS = env.words("OWNER_TAGS", ["owner", "owner-email"])  # whose value may be the owner's e-mail
OU_ENVIRONMENTS = dict(
    pair.partition("=")[::2] for pair in env.words("OU_ENVIRONMENTS")
)  # Kunden=production,Labor=sandbox

LOGGING = logging_settings(level=env.text("LOG_LEVEL", "INFO").upper(), is_json=not (DEBUG or DEMO))

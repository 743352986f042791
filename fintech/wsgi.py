"""The WSGI entry point: what gunicorn and the embedded server run."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

"""The web processes' entry."""

import gc

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
# What is loaded by now stays for good: the collector need not look at it again in the middle of a request.
gc.collect()
gc.freeze()

"""The web processes' entry."""

import gc

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

application = get_wsgi_application()
# Else the first visitor would wait for every page's module to be imported.
_ = get_resolver().url_patterns
# What is loaded by now stays for good: the collector need not look at it again in the middle of a request.
gc.collect()
gc.freeze()

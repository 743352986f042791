"""Fixtures that every test shares."""

import gc
import os
from contextlib import nullcontext

import pytest
from django.conf import settings
from django.db import transaction
from django.template import Template
from django.test import override_settings
from django.test.signals import template_rendered
from hypothesis import settings as hypothesis_settings
from whitenoise.middleware import WhiteNoiseMiddleware

from apps.api import rates
from apps.api.graphql import limits
from apps.market import cache, partitions
from apps.rules import services as rules
from tests import copied_database, first_rows
from tests.portfolios.rows import make_asset, make_portfolio

# How long an example takes depends on what else the machine does; `make bench` is where speed is measured. The same
# examples each time: a run says something about the change, not about the day.
hypothesis_settings.register_profile("repeatable", deadline=None, derandomize=True)
# For a long look by hand, at other examples each time: HYPOTHESIS_PROFILE=thorough pytest tests/rules
hypothesis_settings.register_profile("thorough", deadline=None, max_examples=3_000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure(config):
    """Make users in no time: the real hash takes a third of a second on purpose. And give each process of pytest-xdist
    a Redis database and a vhost of RabbitMQ of its own, as pytest-django gives it a database."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    _find_static_files_once()
    if hasattr(config, "workerinput"):
        _have_own_servers(config.workerinput["workerid"])


def _have_own_servers(worker):
    if settings.REDIS_URL:
        url, _, database = settings.REDIS_URL.rpartition("/")
        settings.REDIS_URL = f"{url}/{int(database) - int(worker.removeprefix('gw'))}"
    if settings.CELERY_BROKER_URL.startswith("amqp"):
        # compose/services.sh makes the vhosts. Celery reads the variable before its setting.
        settings.CELERY_BROKER_URL += f"_{worker}"
        os.environ["CELERY_BROKER_URL"] = settings.CELERY_BROKER_URL


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Let one process of pytest-xdist run all tests that share a module's rows: each other would make them again."""
    for item in items:
        if "module_rows" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


def pytest_collection_finish():
    """Spare the garbage collector what stays to the end: the modules of the project, of the tests, of the libraries."""
    gc.collect()
    gc.freeze()


def _find_static_files_once():
    """Have WhiteNoise look for the static files once, not for each test's client: that takes 20 ms."""
    look, found = WhiteNoiseMiddleware.add_files_from_finders, {}

    def add(middleware):
        if not found:
            look(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    WhiteNoiseMiddleware.add_files_from_finders = add


@pytest.fixture(scope="session", autouse=True)
def _contexts_of_whole_pages(django_test_environment):
    """Keep the context of what is rendered by itself for a test's client, and not those of all that it includes or
    extends: a page of the admin has hundreds, and keeping them takes a tenth of the time of its tests."""

    def render(template, context):
        if context.template is template:
            template_rendered.send(sender=template, template=template, context=context)
        return template.nodelist.render(context)

    # What Django has put there for tests sends the signal each time.
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Template, "_render", render)
        yield


@pytest.fixture(scope="session")
def django_db_setup(request, tmp_path_factory, django_db_modify_db_settings, django_db_keepdb, django_db_blocker):
    """Make the database as pytest-django does, in processes side by side as a copy; note what is in it at first."""
    is_copied = hasattr(request.config, "workerinput") and not django_db_keepdb
    # The processes of a run have their folders in this one.
    folder = tmp_path_factory.getbasetemp().parent
    with django_db_blocker.unblock(), copied_database.copied(folder) if is_copied else nullcontext():
        # The fixture of pytest-django that this one overrides makes the database, or finds the copy.
        request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():
        first_rows.remember()
    yield
    if is_copied:
        with django_db_blocker.unblock():
            copied_database.drop(folder)


def forget_all():
    """Be as a process that has just started: no warm engine, no known partition, an empty cache."""
    rules._warm.clear()
    cache._local.clear()
    rates.forget()
    partitions.forget()


@pytest.fixture(autouse=True)
def _cold_process():
    forget_all()


@pytest.fixture(scope="module")
def module_rows(django_db_setup, django_db_blocker):
    """Let a module's fixtures make rows for all of its tests, in a transaction that is rolled back after the last one.

    A test finds the rows as they were made: what it changes is rolled back too. Objects in Python are not, so a test
    reads the rows again. Not for tests that commit (`transaction=True`), nor for those that need Redis.
    """
    # This comes before the first test's own beginning, and the partitions of the test before are rolled back.
    forget_all()
    with django_db_blocker.unblock(), override_settings(REDIS_URL=""), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def at_any_cost(monkeypatch):
    """Answer a GraphQL query for everything that hangs on a row, which costs more than is answered."""
    monkeypatch.setattr(limits, "COST", 10**9)


@pytest.fixture
def acme():
    """Return an asset to hold."""
    return make_asset()


@pytest.fixture
def savings(ada):
    """Return a portfolio of whom the module calls ada."""
    return make_portfolio(ada)

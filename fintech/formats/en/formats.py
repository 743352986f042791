"""How Django writes dates and times in pages: as the reader does, whom it asks each time. Numbers have a point."""

from apps.locales import STANDARD, Locale
from apps.reader import active_reader

# A directive of strftime -> the same of Django.
_DIRECTIVES = {"%Y": "Y", "%m": "m", "%d": "d", "%H": "H", "%I": "h", "%M": "i", "%S": "s", "%p": "A"}


class _FormOfReader(str):
    """A form of Django, which remembers forms for the whole process. Django takes `str` of it each time it writes a
    date; as it is, it is the standard reader's."""

    def __new__(cls, form: str) -> "_FormOfReader":
        made = super().__new__(cls, _form_in(STANDARD.locale, form))
        made.form = form
        return made

    form: str

    def __str__(self) -> str:
        return _form_in(active_reader().locale, self.form)


def _form_in(locale: Locale, form: str) -> str:
    form = locale.form(form)
    for directive, django in _DIRECTIVES.items():
        form = form.replace(directive, django)
    return form


DATE_FORMAT = _FormOfReader("%x")
TIME_FORMAT = _FormOfReader("%X")
# T is the name of the reader's time zone.
DATETIME_FORMAT = _FormOfReader("%x %X T")

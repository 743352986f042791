"""What tests of the pages of portfolios read of them."""

import html
import re

from django.urls import reverse


def page(client, name, portfolio, *more, **query):
    return client.get(reverse(name, args=[portfolio.pk, *more]), query)


def cells(text, table=0):
    """Return the rows of a table as texts."""
    found = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)[table]
    rows = re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
    return [[re.sub(r"<[^>]*>", "", one).strip() for one in re.findall(r"<td.*?</td>", row, re.DOTALL)] for row in rows]


def figures(text):
    found = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd><dd>(.*?)</dd></div>", text)
    return {re.sub(r"<[^>]*>", "", name): (figure, wording) for name, figure, wording in found}


def opened(client, text, name):
    """Return the page into which a figure opens."""
    address = re.search(rf'<dt><a href="([^"]*)"[^>]*>{re.escape(name)}</a></dt>', text)[1]
    return client.get(html.unescape(address)).text


def facts(text):
    """Return name -> figure and what it is, of the first table."""
    return {name: (figure, what) for name, figure, what in cells(text)}

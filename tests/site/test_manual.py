"""The pages of manual assets: made, priced and deleted by their owner, and seen by nobody else."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from apps.market.models import Quote
from apps.market.queries import every_asset, every_feed
from apps.market.services import create_manual_asset
from apps.pipeline.flow import evaluate_pending, roll_up
from apps.portfolios.models import Transaction
from apps.site.forms import mapping_field
from apps.site.market import address_of
from apps.site.once import new_key
from apps.wording import format_plain
from tests.api.asking import URL
from tests.builders import make_owner
from tests.portfolios.rows import bought, make_portfolio, record

pytestmark = pytest.mark.django_db
NEW, LIST = reverse("manual_add"), reverse("manual_list")
CSV = b"account,date,symbol,currency,price,quantity,type\nX,2024-01-02,HOUSE,EUR,1000,1,BUY\n"


def join(name):
    owner = make_owner(name)
    owner.groups.add(Group.objects.get(name="Owner"))
    return owner


@pytest.fixture
def ada(client):
    ada = join("ada")
    client.force_login(ada)
    return ada


@pytest.fixture
def house(ada):
    return create_manual_asset(owner_id=ada.pk, symbol="HOUSE", currency="EUR")


def page(asset):
    return reverse("manual", args=[asset.external_id])


def create(client, **fields):
    return client.post(NEW, {"currency": "EUR", "key": new_key()} | fields, follow=True)


def type_price(client, asset, day, price):
    return client.post(page(asset), {"what": "price", "day": day, "price": price}, follow=True)


def upload(client, asset, text):
    file = SimpleUploadedFile("prices.csv", text.encode() if isinstance(text, str) else text)
    return client.post(page(asset), {"what": "file", "file": file}, follow=True)


def stored(asset):
    return [(f"{at:%Y-%m-%d %H:%M:%S}", format_plain(price)) for at, price in _quotes(asset)]


def _quotes(asset):
    return Quote.objects.filter(asset=asset.pk).order_by("at").values_list("at", "price")


def test_who_is_not_signed_in_is_sent_to_sign_in(client, house):
    client.logout()
    for address in (LIST, NEW, page(house), reverse("manual_delete", args=[house.external_id])):
        answer = client.get(address)
        assert (answer.status_code, answer.url.partition("?")[0]) == (302, reverse("login"))


def test_an_asset_is_made_and_says_what_to_do_next(client, ada):
    assert "No manual assets yet" in client.get(LIST).text
    answer = create(client, symbol="house", currency="eur", name="My house")
    asset = every_asset().get()
    assert (asset.symbol, asset.currency, asset.name, asset.owner) == ("HOUSE", "EUR", "My house", ada)
    assert "HOUSE was created. Type its prices here, or upload them." in answer.text
    assert "No price yet" in answer.text
    assert "HOUSE" in client.get(LIST).text
    assert create(client, symbol="CAR").redirect_chain
    assert every_feed().count() == 1


def test_what_is_wrong_with_an_asset_stands_beside_its_field(client, house):
    taken = create(client, symbol="HOUSE").context["form"].errors
    assert taken == {"symbol": ["There is an asset of this symbol already."]}
    wrong = create(client, symbol="MY HOUSE", currency="€").context["form"].errors
    assert set(wrong) == {"symbol", "currency"}
    assert every_asset().count() == 1


def test_a_typed_price_counts_from_the_end_of_its_day_and_can_be_typed_again(client, house):
    assert "1 price added." in type_price(client, house, "2024-01-02", "1 000,5").text
    assert "1 price replaced." in type_price(client, house, "2024-01-02", "1001").text
    assert "1 price there already." in type_price(client, house, "2024-01-02", "1001").text
    assert stored(house) == [("2024-01-02 23:59:59", "1001")]
    before = timezone.now()
    type_price(client, house, f"{before:%Y-%m-%d}", "1100")
    assert before <= _quotes(house).last()[0] <= timezone.now()


@pytest.mark.parametrize(
    ("day", "price", "said"),
    [
        ("2024-01-02", "much", "much is not a number"),
        ("2024-01-02", "0", "0 is not from 1e-15 to 1e12."),
        ("1980-01-02", "1", "It must be from 1990 on"),
        ("2999-01-02", "1", "not in the future"),
        ("soon", "1", "Enter a valid date"),
    ],
)
def test_a_wrong_price_is_refused_beside_its_field(client, house, day, price, said):
    assert said in type_price(client, house, day, price).text
    assert stored(house) == []


def test_a_file_of_prices_is_stored_whole(client, house):
    text = "date,price\n2024-01-03,12\n2024-01-02,11\n2024-01-04T09:30:00Z,13\n"
    assert "3 prices added." in upload(client, house, text).text
    assert stored(house) == [
        ("2024-01-02 23:59:59", "11"),
        ("2024-01-03 23:59:59", "12"),
        ("2024-01-04 09:30:00", "13"),
    ]
    assert "3 prices there already." in upload(client, house, text).text
    assert "1 price replaced, 2 prices there already." in upload(client, house, text.replace("12", "14")).text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,price\n2024-01-02,11\n2024-01-03,-1\nsoon,2\n", "line 4: time &#x27;soon&#x27; is neither"),
        ("date,price\n2024-01-02,11\n2024-01-03,-1\n", "line 3: the price &#x27;-1&#x27; is not from"),
        ("symbol,value\nX,1\n", "the header has no column time"),
        ("date,price\n2999-01-02,1\n", "is ahead of the clock"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_a_wrong_file_stores_nothing_and_says_where(client, house, text, said):
    assert said in upload(client, house, text).text
    assert stored(house) == []


def test_a_price_is_deleted_and_a_missing_one_is_said(client, house):
    type_price(client, house, "2024-01-02", "10")
    type_price(client, house, "2024-01-03", "11")
    at = _quotes(house).last()[0].isoformat()
    assert "1 price deleted." in client.post(page(house), {"what": "delete", "at": at}, follow=True).text
    assert stored(house) == [("2024-01-02 23:59:59", "10")]
    for at in ("", "soon", "0001-01-01T00:00:00+23:59"):
        assert client.post(page(house), {"what": "delete", "at": at}, follow=True).status_code == 200
    assert len(stored(house)) == 1


def test_a_portfolio_uses_its_prices_like_any(client, ada, house):
    savings = make_portfolio(ada)
    record(savings, bought(house, day="2024-01-02", quantity="2", amount="200"))
    address = reverse("portfolio", args=[savings.pk])
    assert "HOUSE has no price yet. Type one under Manual assets." in client.get(address).text
    today = timezone.now().date()
    for back, price in ((2, "100"), (1, "110")):
        type_price(client, house, f"{today - timedelta(days=back)}", price)
    evaluate_pending(feed_id=house.feed_id)
    roll_up()
    assert "220 EUR" in client.get(address).text
    figures = client.get(reverse("performance", args=[savings.pk]), {"period": "1m"}).text
    assert "Time-weighted return" in figures
    assert "10 %" in figures


def test_the_page_of_an_asset_without_a_price_leads_to_where_it_is_typed(client, house):
    text = client.get(address_of(house)).text
    assert f'<a href="{page(house)}">Type its prices' in text
    assert "once its feed is enabled" not in text


def test_an_import_makes_manual_assets_of_what_is_not_known(client, ada):
    savings = make_portfolio(ada)
    client.post(reverse("portfolio_import", args=[savings.pk]), {"file": SimpleUploadedFile("mine.csv", CSV)})
    confirm = reverse("portfolio_import_confirm", args=[savings.pk])
    chosen = {mapping_field("account", ""): savings.pk, mapping_field("manual", "HOUSE"): "on"}
    preview = client.post(confirm, chosen).text
    assert "A manual asset HOUSE would be made, with prices in EUR." in preview
    assert not every_asset().exists()
    assert not every_feed().exists()
    answer = client.post(confirm, chosen | {"record": "1"}).text
    asset = every_asset().get()
    assert (asset.symbol, asset.currency, asset.owner) == ("HOUSE", "EUR", ada)
    assert page(asset) in answer
    assert [(one.asset_id, one.quantity) for one in Transaction.objects.all()] == [(asset.pk, 1)]


def test_an_import_says_why_a_manual_asset_cannot_be_made(client, ada):
    savings = make_portfolio(ada)
    file = SimpleUploadedFile("mine.csv", CSV.replace(b"HOUSE", b"MY HOUSE"))
    client.post(reverse("portfolio_import", args=[savings.pk]), {"file": file})
    confirm = reverse("portfolio_import_confirm", args=[savings.pk])
    chosen = {mapping_field("account", ""): savings.pk, mapping_field("manual", "MY HOUSE"): "on", "record": "1"}
    answer = client.post(confirm, chosen)
    assert "Use 1 to 64 capital letters" in answer.text
    assert not every_asset().exists()
    client.post(confirm, chosen | {mapping_field("symbol", "MY HOUSE"): "HOUSE-1"})
    assert every_asset().get().symbol == "HOUSE-1"


def test_deleting_asks_first_and_leaves_what_transactions_name(client, ada, house):
    savings = make_portfolio(ada)
    [row] = record(savings, bought(house))
    address = reverse("manual_delete", args=[house.external_id])
    assert "cannot be undone" in client.get(address).text
    assert "HOUSE stays: positions and transactions name it." in client.post(address).text
    row.delete()
    savings.positions.all().delete()
    assert "HOUSE is deleted." in client.post(address, follow=True).text
    assert not every_asset().exists()
    assert not every_feed().exists()


def test_nobody_else_sees_it_on_any_page_query_or_export(client, ada, house):
    type_price(client, house, "2024-01-02", "4242")
    eve = join("eve")
    eve.is_staff = True
    eve.save()
    theirs = make_portfolio(eve, "EVES")
    client.force_login(eve)
    nobodys = page(house).replace(house.external_id, "owned-9007199254740000")
    for address, none in ((page(house), nobodys), (f"{page(house)}delete/", f"{nobodys}delete/")):
        for ask in (client.get, client.post):
            found, missing = ask(address), ask(none)
            assert (found.status_code, found.content) == (missing.status_code, missing.content)
            assert found.status_code == 404
    names = ("portfolio", "performance", "portfolio_drift", "portfolio_download", "portfolio_as_ghostfolio")
    addresses = [reverse(name, args=[theirs.pk]) for name in names]
    addresses += [LIST, reverse("series_list"), reverse("front"), reverse("admin:market_asset_changelist")]
    addresses += [f"{reverse('series_pick')}?term=house", f"{reverse('performance', args=[theirs.pk])}?benchmark=HOUSE"]
    shown = [one for one in addresses if "4242" in client.get(one).text or ">HOUSE<" in client.get(one).text]
    assert shown == []
    query = '{ asset(symbol: "HOUSE") { symbol } assets { nodes { symbol } } }'
    assert 'HOUSE\\"' not in client.post(URL, {"query": query}, content_type="application/json").text
    client.post(reverse("portfolio_import", args=[theirs.pk]), {"file": SimpleUploadedFile("mine.csv", CSV)})
    confirm = reverse("portfolio_import_confirm", args=[theirs.pk])
    chosen = {mapping_field("account", ""): theirs.pk, mapping_field("symbol", "HOUSE"): "HOUSE", "record": "1"}
    assert "There is no asset HOUSE." in client.post(confirm, chosen).text
    assert not Transaction.objects.exists()


def test_without_the_permission_nothing_changes(client, house):
    asset = create_manual_asset(owner_id=make_owner("grace").pk, symbol="CAR", currency="EUR")
    client.force_login(asset.owner)
    assert client.get(page(asset)).status_code == 200
    posts = [(NEW, {"symbol": "X", "currency": "EUR"}), (page(asset), {"what": "price"})]
    posts += [(reverse("manual_delete", args=[asset.external_id]), {})]
    assert [client.post(address, data).status_code for address, data in posts] == [403] * 3
    assert every_asset().count() == 2

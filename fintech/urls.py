"""Which path leads to which door."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import path, register_converter
from django.views.generic import RedirectView

from apps.api.graphql.view import graphql
from apps.api.intake.alertmanager import alertmanager
from apps.api.intake.imports import imports
from apps.api.intake.ingest import ingest
from apps.api.metrics import metrics
from apps.pipeline.manual_prices import delete_price, store_prices
from apps.site import (
    asset_list,
    assets,
    drift,
    identities,
    importing,
    manual,
    nights,
    own_account,
    parts,
    pasts,
    performance,
    portfolio_series,
    portfolio_settings,
    portfolios,
    probes,
    reconciling,
    second_factor,
    series,
    single_sign_on,
    transactions,
)
from apps.site import views as site
from apps.site.market import AssetName

register_converter(AssetName, "asset")

# Before its addresses are listed.
admin.autodiscover()

handler500 = "apps.site.unavailable.failed"
urlpatterns = [
    path("", site.front, name="front"),
    # Asked for beside addresses without a page that names one.
    path("favicon.ico", RedirectView.as_view(url=static("site/icon.svg"))),
    path("live", site.live, name="live"),
    path("graphql", graphql, name="graphql"),
    path("ingest/<str:feed>", ingest, name="ingest"),
    path("imports", imports, name="imports"),
    path("alertmanager", alertmanager, name="alertmanager"),
    path("metrics", metrics, name="metrics"),
    path("action/<str:token>", site.action, name="action"),
    path("healthz", probes.healthz, name="healthz"),
    path("readyz", probes.readyz, name="readyz"),
    path("status", probes.status, name="status"),
    path("assets/", asset_list.asset_list, name="asset_list"),
    path("assets/live", asset_list.asset_list_live, name="asset_list_live"),
    path("assets/watch", asset_list.watch_asset, name="watch_asset"),
    path("assets/<asset:name>/live", assets.asset_live, name="asset_live"),
    path("assets/<asset:name>/quotes.csv", assets.asset_quotes, name="asset_quotes"),
    path("assets/<asset:name>/alerts.csv", assets.asset_alerts, name="asset_alerts"),
    path("assets/<asset:name>/", assets.asset_page, name="asset"),
    path("portfolios/", portfolios.portfolio_list, name="portfolios"),
    path("portfolios/add/", portfolio_settings.add_page, name="portfolio_add"),
    path("portfolios/<int:pk>/", portfolios.portfolio_page, name="portfolio"),
    path("portfolios/<int:pk>/settings/", portfolio_settings.settings_page, name="portfolio_settings"),
    path("portfolios/<int:pk>/delete/", portfolio_settings.delete_page, name="portfolio_delete"),
    path("portfolios/<int:pk>/performance/", performance.performance_page, name="performance"),
    path("portfolios/<int:pk>/performance/part/", performance.performance_part, name="portfolio_performance_part"),
    path("portfolios/<int:pk>/performance/<str:name>/", performance.figure_page, name="performance_figure"),
    path("portfolios/<int:pk>/drift/", drift.drift_page, name="portfolio_drift"),
    path("portfolios/<int:pk>/series/", portfolio_series.series_page, name="portfolio_series"),
    path("portfolios/<int:pk>/series/<str:name>/", portfolio_series.one_series_page, name="portfolio_one_series"),
    path("portfolios/<int:pk>/drift/sentence/", drift.drift_sentence, name="portfolio_drift_sentence"),
    path("portfolios/<int:pk>/reconcile/", reconciling.reconcile_page, name="portfolio_reconcile"),
    path("portfolios/<int:pk>/nights/", nights.nights_page, name="portfolio_nights"),
    path("portfolios/<int:pk>/pasts/", pasts.pasts_page, name="portfolio_pasts"),
    path("portfolios/<int:pk>/import/", importing.import_page, name="portfolio_import"),
    path("portfolios/<int:pk>/import/confirm/", importing.confirm_page, name="portfolio_import_confirm"),
    path("portfolios/<int:pk>/transactions/", transactions.list_page, name="portfolio_transactions"),
    path("portfolios/<int:pk>/transactions/add/", transactions.add_page, name="portfolio_transaction_add"),
    path("portfolios/<int:pk>/transactions/<int:row>/", transactions.one_page, name="portfolio_transaction"),
    path(
        "portfolios/<int:pk>/transactions/<int:row>/correct/",
        transactions.correct_page,
        name="portfolio_transaction_correct",
    ),
    path(
        "portfolios/<int:pk>/transactions/<int:row>/delete/",
        transactions.delete_page,
        name="portfolio_transaction_delete",
    ),
    path("portfolios/<int:pk>/transactions.csv", portfolios.portfolio_download, name="portfolio_download"),
    path("portfolios/<int:pk>/ghostfolio.json", portfolios.portfolio_as_ghostfolio, name="portfolio_as_ghostfolio"),
    path("portfolios/<int:pk>/of/<str:name>/", parts.parts_page, name="portfolio_parts"),
    path("portfolios/<int:pk>/<int:asset>/", portfolios.holding_page, name="holding"),
    path("series/", series.series_list, name="series_list"),
    path("series/new/", series.add_page, name="series_add"),
    path("series/preview/", series.preview, name="series_preview"),
    path("series/assets/", series.pick, name="series_pick"),
    path("series/<str:key>/", series.series_page, name="series"),
    path("series/<str:key>/change/", series.change_page, name="series_change"),
    path("series/<str:key>/delete/", series.delete_page, name="series_delete"),
    path("manual/", manual.manual_list, name="manual_list"),
    path("manual/new/", manual.add_page, name="manual_add"),
    path(
        "manual/<str:key>/",
        manual.manual_page,
        {"store": store_prices, "delete_price": delete_price},
        name="manual",
    ),
    path("manual/<str:key>/delete/", manual.delete_page, name="manual_delete"),
    path("accounts/login/", site.SignIn.as_view(), name="login"),
    # A name that allauth knows.
    path("accounts/login/code/", second_factor.sign_in_code, name="mfa_authenticate"),
    path("accounts/logout/", site.SignOut.as_view(), name="logout"),
    path("accounts/profile/", site.ProfileEdit.as_view(), name="profile"),
    path("accounts/profile/saved/", site.ProfileSaved.as_view(), name="profile_saved"),
    path("accounts/sso/", single_sign_on.single_sign_on, name="single_sign_on"),
    path("accounts/sso/callback/", single_sign_on.single_sign_on_callback, name="single_sign_on_callback"),
    path("accounts/identities/connect/", identities.identity_connect, name="identity_connect"),
    path("accounts/identities/<int:pk>/remove/", identities.identity_remove, name="identity_remove"),
    path("accounts/second-factor/", second_factor.second_factor, name="second_factor"),
    path("accounts/second-factor/codes/", second_factor.second_factor_codes, name="second_factor_codes"),
    path("accounts/second-factor/off/", second_factor.second_factor_off, name="second_factor_off"),
    path("accounts/download/", own_account.account_download, name="account_download"),
    path("accounts/delete/", own_account.account_delete, name="account_delete"),
    path("accounts/password/", site.PasswordChange.as_view(), name="password_change"),
    path("accounts/password/done/", site.PasswordChangeDone.as_view(), name="password_change_done"),
    path("accounts/reset/", site.PasswordReset.as_view(), name="password_reset"),
    path("accounts/reset/sent/", site.PasswordResetDone.as_view(), name="password_reset_done"),
    path("accounts/reset/<uidb64>/<token>/", site.PasswordResetConfirm.as_view(), name="password_reset_confirm"),
    path("accounts/reset/done/", site.PasswordResetComplete.as_view(), name="password_reset_complete"),
    # Before the admin's own: there is one door, and it counts who knocks.
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    path("admin/", admin.site.urls),
]

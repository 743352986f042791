from django.apps import AppConfig

from apps.market.derived.series import register
from apps.portfolios.domain.series import PortfolioSeries, SeriesKind


class PortfoliosConfig(AppConfig):
    name = "apps.portfolios"
    label = "portfolios"

    def ready(self) -> None:
        register([kind.value for kind in SeriesKind], PortfolioSeries.of_document)

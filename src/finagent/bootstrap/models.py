"""The model that scores, as the settings name it: the formula, or the champion of the registry."""

import structlog

from finagent.adapters.models.mlflow_store import MlflowStore
from finagent.adapters.models.onnx_predictor import OnnxPredictor
from finagent.adapters.models.package import ModelPackage, open_package
from finagent.adapters.models.registry_files import RegistryFiles
from finagent.adapters.models.registry_mlflow import RegistryMlflow
from finagent.adapters.models.warm_copy import WarmCopy
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import Alias, ModelRegistry
from finagent.domain.ports.predictor import Predictor
from finagent.quant.features.catalogue import CANDIDATE
from finagent.quant.specialists.gap_and_go import GapAndGoFormula
from finagent.settings import Settings, quiet_mlflow

log = structlog.get_logger(__name__)


def open_registry(settings: Settings) -> ModelRegistry:
    """It takes in and promotes only what could serve here."""

    def admit(package: ModelPackage) -> OnnxPredictor:
        return OnnxPredictor(package, CANDIDATE)

    if settings.model.registry == "mlflow":
        return RegistryMlflow(open_mlflow(settings), admit)
    return RegistryFiles(settings.models_path, admit)


def open_mlflow(settings: Settings) -> MlflowStore:
    """MLflow is not imported before it is asked."""
    quiet_mlflow()
    return MlflowStore(settings.storage.directory, settings.model.mlflow_url)


def build_predictor(settings: Settings, *, keep: bool = True) -> Predictor:
    """BadInput, with the cure, where the champion is missing or refused: another model than the one that was chosen must not
    trade in its place. Where the registry is away, the package that served last does; `keep` makes this one that."""
    if settings.model.serve == "formula":
        return GapAndGoFormula()
    warm = WarmCopy(settings.storage.directory / "warm-model")
    try:
        package = _champion(open_registry(settings))
    except Transient as away:
        package = _kept(warm, away)
        predictor = OnnxPredictor(package, CANDIDATE)
        log.warning("model_registry_away", reason=str(away), model=package.version, digest=package.digest[:16])
        return predictor
    predictor = OnnxPredictor(package, CANDIDATE)
    if not keep:
        return predictor
    try:
        warm.keep(package)
    except Transient as error:
        log.warning("warm_model_not_kept", reason=str(error), model=package.version)
    log.info("model_served", model=package.version, digest=package.digest[:16])
    return predictor


def _champion(registry: ModelRegistry) -> ModelPackage:
    version = registry.aliases().get(Alias.CHAMPION)
    if version is None:
        raise BadInput(
            "model.serve is registry, and it has no champion: `finagent models promote VERSION --reason R` names one, or "
            "--set model.serve=formula"
        )
    try:
        return open_package(registry.fetch(version))
    except BadInput as refusal:
        raise BadInput(
            f"the champion {version} cannot serve: {refusal}; `finagent models rollback --reason R` goes back, `finagent models "
            "promote VERSION --reason R` names another one"
        ) from refusal


def _kept(warm: WarmCopy, away: Transient) -> ModelPackage:
    try:
        package = warm.read()
    except (BadInput, Transient) as refusal:
        raise BadInput(f"model.serve is registry, and {away}; the copy of what served last cannot serve: {refusal}") from refusal
    if package is None:
        raise BadInput(
            f"model.serve is registry, and {away}; nothing has served here yet that could instead: register and promote a "
            "package, or --set model.serve=formula"
        ) from away
    return package

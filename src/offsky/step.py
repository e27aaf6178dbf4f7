"""The JWST pipeline's background step with offsky's averaging in it."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from offsky.choices import choose_options
from offsky.declared import declarations
from offsky.engine.order import Order, Progress
from offsky.errors import ParameterError
from offsky.io.mask_choice import masks_for
from offsky.io.model_product import ModelAverage, ModelProduct
from offsky.models import made
from offsky.options import PROFILES, Options
from offsky.outcome import SKIPPED
from offsky.reporting.wanted import observers_of
from offsky.selection.suitability import Policy

try:
    from jwst.background import BackgroundStep as JwstBackgroundStep
    from stdatamodels.jwst.datamodels import JwstDataModel
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: offsky.step needs the JWST pipeline; pip install 'offsky[jwst]'",
        name=error.name,
    ) from error

__all__ = ["BackgroundStep", "install", "uninstall"]

log = logging.getLogger(__name__)

# Their background is a scaled reference file, which the parent subtracts.
_FROM_REFERENCE = ("NIS_WFSS", "NRC_WFSS", "MIR_WFSS", "NIS_SOSS")


def spec_of(options_class: type[Options] = Options) -> str:
    """Return the parameters of the step, as ConfigObj reads them, beside those of jwst's.

    Parameters
    ----------
    options_class : type
        `Options`, or a class derived from it.
    """
    lines = [
        f"profile = option({_quoted(PROFILES)}, default='jwst')  # Set of options to begin with",
    ]
    for each in declarations(options_class):
        if each.name == "maxiters":
            continue  # jwst's own, to whom 0 is no limit
        kind = {
            "choice": f"option({_quoted(each.words)}, default=None)",
            "number": "float(default=None)",
            "count": "integer(default=None)",
            "flags": "string(default=None)",
            "switch": "boolean(default=None)",
        }[each.kind if each.kind == "choice" or not each.words else "flags"]
        text = each.help.replace("`", "")
        lines.append(f"{each.name} = {kind}  # {text} None: {each.defaults}")
    lines += [
        "masks = force_list(default=None)  # Masks of backgrounds, each as BACKGROUND=FILE",
        "mask_dir = string(default=None)  # Folder with <root>_mask.fits of <root>_rate.fits",
        "report = string(default=None)  # Page to write (.html), or a folder for it",
        "memory = string(default=None)  # Most memory beside the models, such as 4G",
        "threads = integer(default=None)  # Threads to use. None: one a core",
    ]
    return "\n".join(lines)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


class BackgroundStep(JwstBackgroundStep):  # type: ignore[misc]
    """Subtract background exposures from a target exposure.

    The step takes the place of ``jwst.background.BackgroundStep``. It has the same alias,
    parameters, inputs, statuses and products, and offsky's options (``profile``, and the
    fields of `offsky.Options`; None for the profile's value). ``docs/parity.md`` lists the
    differences in the results.
    """

    spec = spec_of()

    progress: Progress | None = None
    """Called with the number of rows just done and that of all."""

    def process(self, step_input: Any, input_bkg_list: Any = None) -> Any:
        """Subtract the average of background exposures from the target.

        Parameters
        ----------
        step_input : str, JwstDataModel or mapping
            The target: a file or an open model, or a level-2 association: its file,
            a dictionary or the object.
        input_bkg_list : sequence, str, JwstDataModel or None
            Files and open models, or names joined by commas. Members of the
            association win over it, it wins over the parameter ``bkg_list``.

        Returns
        -------
        JwstDataModel
            A copy, of the target's type; inside a pipeline, where the target is the
            pipeline's own, the target itself.
        """
        with _logged_like_jwst():
            target, members = self._asn_get_data(self._association(step_input))
            if target.meta.exposure.type in _FROM_REFERENCE:
                return self._from_reference(step_input, input_bkg_list)
            given = self.bkg_list if input_bkg_list is None else input_bkg_list
            try:
                backgrounds = _listed(members["background"] or given)
                return self._subtract(target, backgrounds, tuple(members["imprint"]))
            except BaseException:
                # A file that was opened here is nobody else's to close.
                if isinstance(members["science"][0], str | os.PathLike):
                    target.close()
                raise

    def _from_reference(self, step_input: Any, input_bkg_list: Any) -> Any:
        """Call jwst's step, with its own default."""
        given: Any = self.get_pars()["sigma"]
        self.sigma = PROFILES["jwst"].sigma if given is None else given
        try:
            return super().process(step_input, input_bkg_list)
        finally:
            self.sigma = given

    def _options(self) -> Options:
        """Return the options of the parameters."""
        known = declarations(Options)
        given = {each.name: getattr(self, each.name) for each in known}
        wanted = {name: value for name, value in given.items() if value is not None}
        # To the parent, and to astropy, none below 1 is a limit.
        if wanted.get("maxiters", 1) < 1:
            wanted["maxiters"] = None
        for each in known:
            value = wanted.get(each.name)
            if each.kind == "number" and isinstance(value, str) and value not in each.words:
                wanted[each.name] = _number(value)
        return choose_options(self.profile, None, wanted)

    def set_primary_input(self, obj: Any, exclusive: bool = True) -> None:
        """Remember the input that products are named after.

        Parameters
        ----------
        obj : str, JwstDataModel or mapping
            The target or the association; for one in memory, its product's name.
        exclusive : bool
            As for the parent.
        """
        if isinstance(obj, Mapping):
            obj = f"{obj['products'][0]['name']}.fits"
        super().set_primary_input(obj, exclusive)

    def _association(self, step_input: Any) -> Any:
        """Read the association, or make one of the target alone."""
        if not isinstance(step_input, Mapping):
            return self.load_as_level2_asn(step_input)
        products = [
            {
                **product,
                "members": [
                    {**member, "expname": self.make_input_path(member["expname"])}
                    for member in product["members"]
                ],
            }
            for product in step_input["products"]
        ]
        return {**step_input, "products": products}

    def _subtract(
        self, target: Any, backgrounds: list[Any], imprints: tuple[Any, ...] = ()
    ) -> Any:
        if not backgrounds:
            log.warning("no backgrounds given; nothing is subtracted")
            target.meta.cal_step.bkg_subtract = SKIPPED
            return target
        order = Order(
            target=target,
            backgrounds=tuple(backgrounds),
            # A copy, or inside a pipeline its own model.
            product=ModelProduct(target, in_place=True),
            combined=ModelAverage(target) if self.save_combined_background else None,
            masks=masks_for(backgrounds, _named_masks(self.masks), self.mask_dir),
            # Inside a pipeline they have been subtracted, and are not given.
            imprint_choice=imprints,
            policy=Policy(force=True, all_or_nothing_tilt=True),
            observers=observers_of(self.report),
        )
        result = made(order, self._options(), self.threads, self.memory, self.progress)
        outcome = result.succeeded()
        log.info("%s", outcome)
        if result.combined is not None:
            with result.combined as average:
                path = self.save_model(average, suffix=self.bkg_suffix, force=True)
            log.info("average background written to %s", path)
        return result.product

    @classmethod
    def get_config_from_reference(cls, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Ask CRDS for parameters; without CRDS, go on with those given.

        Parameters
        ----------
        dataset, args, kwargs
            As for the parent.

        Returns
        -------
        ConfigObj
        """
        try:
            return super().get_config_from_reference(dataset, *args, **kwargs)
        except SystemExit:
            # The CRDS client ends the process where neither server nor cache is there.
            with _logged_like_jwst():
                log.warning("CRDS cannot be reached: going on with the parameters given")
            return super().get_config_from_reference(dataset, disable=True)


def install() -> None:
    """Make ``Image2Pipeline`` and ``Spec2Pipeline`` of this process use offsky's step.

    Pipelines made afterwards have it as their ``bkg_subtract``. `uninstall` undoes it.
    """
    _put_in_pipelines(BackgroundStep)


def uninstall() -> None:
    """Give ``Image2Pipeline`` and ``Spec2Pipeline`` the JWST pipeline's own step back."""
    _put_in_pipelines(JwstBackgroundStep)


def _put_in_pipelines(step: type[Any]) -> None:
    from jwst.pipeline import Image2Pipeline, Spec2Pipeline

    for pipeline in (Image2Pipeline, Spec2Pipeline):
        pipeline.step_defs["bkg_subtract"] = step


def _named_masks(masks: Iterable[str] | None) -> dict[str, str]:
    """Return masks by the names of their backgrounds."""
    named = {}
    for text in masks or ():
        name, sign, file = str(text).partition("=")
        if not sign or not name or not file:
            raise ParameterError(f"masks: {text!r} is no pair; give BACKGROUND=FILE")
        named[name] = file
    return named


def _number(text: str) -> float | str:
    """Return a number; another text as it is, for `Options` to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def _listed(backgrounds: Any) -> list[Any]:
    """Return backgrounds as a list, without empty names."""
    if backgrounds is None:
        return []
    if isinstance(backgrounds, str):
        backgrounds = backgrounds.split(",")
    elif isinstance(backgrounds, os.PathLike | JwstDataModel):
        backgrounds = [backgrounds]
    named = (each.strip() if isinstance(each, str) else each for each in backgrounds)
    return [each for each in named if each is not None and each != ""]


@contextmanager
def _logged_like_jwst() -> Iterator[None]:
    """Send offsky's messages where jwst's go.

    Steps and pipelines attach handlers to loggers that they know by name, offsky's
    not among them; they show the messages, and record them in the product.
    """
    ours, theirs = logging.getLogger("offsky"), logging.getLogger("jwst")
    level = ours.level
    borrowed = [handler for handler in theirs.handlers if handler not in ours.handlers]
    for handler in borrowed:
        ours.addHandler(handler)
    if borrowed and level == logging.NOTSET:
        ours.setLevel(theirs.level)
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in borrowed:
            ours.removeHandler(handler)

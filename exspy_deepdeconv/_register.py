"""Put our methods on exspy's ``EELSSpectrum`` as soon as that class exists.

HyperSpy lets an extension add signal classes, but not methods to the class of another
package. So we watch the import of the modules that may define the class.
"""

import sys
import warnings
from types import ModuleType

from wrapt import register_post_import_hook

# exspy 0.3 defines the class in `eels`, its development version in `_eels`; there `eels`
# is a deprecated shim. LazyEELSSpectrum inherits from EELSSpectrum in both.
_MODULES = ("exspy.signals.eels", "exspy.signals._eels")

_extended_classes = set()


def register():
    """Add the methods of this package to exspy's ``EELSSpectrum``.

    There is no need to call this: it is done when HyperSpy loads its extensions, or
    when this package is imported, and waits for exspy where that is not loaded yet.
    It helps where something keeps import hooks from running, for instance after
    :func:`importlib.reload` of an exspy module. Calling it again does no harm.
    """
    for name in _MODULES:
        register_post_import_hook(_extend_class_of, name)


def _extend_class_of(module):
    # vars(), not getattr(): a deprecated module may warn on attribute access.
    cls = vars(module).get("EELSSpectrum")
    if cls is not None:
        _add_methods(cls)
    else:
        _wait_for(module)


def _wait_for(module):
    """Try again when the import of `module` has finished.

    exspy's modules import HyperSpy, and with it us, before they define their class.
    Importing a submodule ends with setting it as an attribute of its parent package.
    """
    parent = sys.modules.get(module.__name__.rpartition(".")[0])
    if type(parent) is ModuleType:
        parent.__class__ = _WatchedPackage


class _WatchedPackage(ModuleType):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if f"{self.__name__}.{name}" in _MODULES and "EELSSpectrum" in vars(value):
            self.__class__ = ModuleType
            _extend_class_of(value)


def _add_methods(cls):
    if cls in _extended_classes:
        return
    _extended_classes.add(cls)

    # Here, not above: only needed once exspy, and so HyperSpy, is loaded anyway.
    from .signal import METHODS

    for name, function in METHODS.items():
        if hasattr(cls, name):
            warnings.warn(
                f"{cls.__name__}.{name} exists already and is kept: the method of "
                "that name of exspy_deepdeconv is not available.",
                stacklevel=2,
            )
        else:
            setattr(cls, name, function)

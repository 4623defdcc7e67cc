"""What can go wrong with a plugin: one class a cause."""


class RegistryError(LookupError):
    """A component could not be looked up; not a KeyError, which would quote its message."""


class UnknownComponentError(RegistryError):
    """No installed package offers this name."""


class BrokenPluginError(RegistryError):
    """The package that offers this name cannot deliver it; the cause is chained."""


class NameClashError(RegistryError):
    """More than one package offers this name."""


class LegacyKerasError(ImportError):
    """TensorFlow is absent or uses a Keras that TFRS cannot use."""


class PluginWarning(UserWarning):
    """A plugin was skipped or ignored; everything else works."""

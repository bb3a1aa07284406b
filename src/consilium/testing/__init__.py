"""Conformance suites for authors of plug-ins: the laws that every Strategy, Source, Trainer and Store keeps.

A law is a function of what makes the plug-in; it raises AssertionError where the plug-in breaks it. With pytest::

    from consilium.testing import strategies

    @pytest.mark.parametrize("law", strategies.LAWS)
    def test_laws(law):
        law(MyStrategy)
"""

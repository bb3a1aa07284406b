"""256 short words, one for each byte, for fingerprints that people compare."""

WORDS: tuple[str, ...] = tuple(
    """
    acid acorn actor agate alarm album alder alley almond alpha amber anchor angle ankle apple april apron
    arch arena arrow ash aspen atlas attic aunt autumn avenue bacon badge bagel baker balm bamboo banjo barley
    basil basket beach beacon beaver bell bench berry bicycle birch biscuit blanket bloom blue boat bonnet
    book boot bottle box branch bread brick bridge bronze brook brush bucket bugle butter button cabin cable
    cactus cake camel candle canoe canvas carbon carpet castle cat cedar cello cement chalk cherry chess chest
    chimney cider cinema circle citrus clay cliff clock cloud clover coal cobalt coffee comet compass copper
    coral cork cotton cradle crane crater crayon cricket crown crystal cube cup curtain cycle daisy dawn deer
    delta desk dial diamond dice dock dolphin domino donkey door dove dragon drum duck dune eagle earth easel
    echo eel elbow elm ember emerald engine envoy fabric falcon farm feather fern ferry fiddle field fig
    filter finch flag flame flint flute fog forest fossil fountain fox frost gallop garden garlic gate gazelle
    ginger giraffe glacier glove goat gold goose grape gravel guitar gull hammer harbor harp hawk hazel helmet
    heron hill hinge honey horn horse igloo indigo ink iris iron island ivory ivy jacket jade jasmine jelly
    jet jigsaw jungle kayak kettle kite kiwi koala ladder lake lantern larch lark laurel lava lemon lens lilac
    lily lime linen lion lizard llama lobster lotus lute magnet mango maple marble meadow melon mint mirror
    mole moon moss mountain mule needle nest nutmeg oak oasis olive onion opal orchid otter owl
    """.split()  # noqa: SIM905  256 quotes would say no more
)

"""What keeps a record from being read, in words, and what to do; by the reasons that `records` has for it."""

UNREAD = {
    "moment": (
        "some records have no moment, and may lie within the window",
        "complete the column of moments in the source's query, or leave out there what does not count",
    ),
    "day": (
        "some records have a date without a time of day, and may lie within the window, or be its first or last",
        "give their time of day, and that of the index moment; or ask the study's owner for a window that ends in "
        "days, such as `1d` in place of `24h`",
    ),
    "zone": (
        "some records have a moment with a time zone where the index moment or another record has none, or the "
        "reverse, and may lie within the window, or be its first or last",
        "write the moments of records and of the index alike in the sources' queries: all with their zone, as "
        "2030-01-31T08:00+01:00, or all without",
    ),
    "month": (
        "some records have a month or a year for a date, and may lie within the window, or be its first or last",
        "complete their dates where they are kept; or ask the study's owner for a window that is longer, or has no end",
    ),
    "date": (
        "some records have a moment that cannot be read, and may lie within the window",
        "write dates in the source's query as 2030-01-31, moments as 2030-01-31T08:00",
    ),
    "index": (
        "the index moments of some patients are a month or a year, or cannot be read, so that they have no window",
        "complete them where they are kept, or write them in the source's query as 2030-01-31 or 2030-01-31T08:00",
    ),
    "code": (
        "some records of drugs only refer to their drug, and do not say its code",
        "give them their code in a view or query of your own, such as by a join with Medication",
    ),
    "system": (
        "some records have a code of the contract, and no code system",
        "if they are meant, write the code into `local` of the feature; else give its system in the source's query",
    ),
    "beside": (
        "some records have a code of the contract with more beside it in one text, as 2160-0^LN",
        "give the code alone in the source's query, such as by split_part(code, '^', 1), and its system in a column of "
        "its own; or write the text into `local` of the feature",
    ),
}
NONE = "; the patients have no value until then"
UNTIL = f"{NONE}, for such a record may be the one that counts"

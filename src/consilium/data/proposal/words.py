"""Words that people use for the same thing in tables of hospitals: abbreviations, and other languages.

General knowledge of how medicine is written down; no table, and no data set, is meant.
"""

import unicodedata

SAME = {
    "age": "age|alter|lebensalter|edad|eta|leeftijd",
    "sex": "sex|gender|geschlecht|sexe|sexo|genre|geslacht",
    "weight": "weight|wt|gewicht|koerpergewicht|korpergewicht|poids|peso",
    "height": "height|ht|groesse|grosse|koerpergroesse|korpergrosse|estatura|talla|lengte",
    "bmi": "bmi|body mass index",
    "temperature": "temperature|temp|temperatur|temperatura|koerpertemperatur|korpertemperatur",
    "pressure": "blood pressure|bp|blutdruck|tension|pression|presion|pressure|druck",
    "systolic": "systolic|sys|syst|systolisch|systolique|sistolica",
    "diastolic": "diastolic|dia|diast|diastolisch|diastolique|diastolica",
    "mean": "mean|average|avg|mittel|mittelwert|moyenne|media",
    "max": "max|maximum|maximal|highest|peak|hoechste|hochste|largest",
    "min": "min|minimum|minimal|lowest|nadir|niedrigste|smallest",
    "first": "first|erste|erster|initial|baseline",
    "last": "last|letzte|letzter|final|latest",
    "heart rate": "heart rate|hr|pulse|pulse rate|puls|herzfrequenz|hf|pouls|frequence cardiaque|frecuencia cardiaca",
    "breathing": "respiratory rate|respiration rate|respiration|resp rate|resp|rr|atemfrequenz|af",
    "saturation": "oxygen saturation|spo2|sao2|saturation|sauerstoffsattigung|sauerstoffsaettigung",
    "cholesterol": "cholesterol|chol|cholesterin|choles|colesterol",
    "triglycerides": "triglycerides|triglyceride|tg|trigs|trigliceridos",
    "glucose": "glucose|glukose|gluk|gluc|blood sugar|sugar|blutzucker|bz|glycemia|glycaemia|glycemie|glucosa",
    "creatinine": "creatinine|creat|crea|krea|kreatinin|creatinina",
    "urea nitrogen": "urea nitrogen|bun",
    "urea": "urea|harnstoff|uree",
    "sodium": "sodium|na|natrium|sodio",
    "potassium": "potassium|kalium|potasio|k",
    "calcium": "calcium|kalzium|calcio",
    "lactate": "lactate|laktat|lac|lactato",
    "bilirubin": "bilirubin|bili|bilirubine|bilirrubina",
    "albumin": "albumin|alb|albumine|albumina",
    "haemoglobin": "haemoglobin|hemoglobin|hamoglobin|haemoglobine|hb|hgb|hemoglobina",
    "haematocrit": "haematocrit|hematocrit|hamatokrit|haematokrit|hct|hkt",
    "leukocytes": "white blood cells|white blood cell count|white cell count|wbc|leukocytes|leukozyten|leuko",
    "platelets": "platelets|platelet count|plt|thrombozyten|thrombo|thrombocytes|plaquettes|plaquetas",
    "crp": "crp|c reactive protein",
    "electrocardiogram": "electrocardiogram|ecg|ekg|elektrokardiogramm",
    "exercise": "exercise|exertion|effort|belastung|ergometrie|exerc|ex|stress test",
    "rest": "rest|resting|ruhe|repos|reposo",
    "fasting": "fasting|fast|nuchtern|nuechtern|ayuno|jeun",
    "angina": "angina|angor",
    "pain": "pain|schmerz|schmerzen|douleur|dolor",
    "chest": "chest|brust|thorax|thoracic|thorakal|poitrine",
    "depression": "depression|depr|senkung",
    "coronary": "coronary|koronar|koronare|coronaire|coronaria",
    "disease": "disease|illness|krankheit|erkrankung|maladie|enfermedad",
    "diagnosis": "diagnosis|diag|dx|diagnose|diagnostic|diagnosed|diagnostico",
    "dead": "dead|death|died|deceased|expired|verstorben|gestorben|tod|tot|mortality|mort|exitus|deces|fallecido",
    "alive": "alive|survived|survivor|survival|living|lebt|lebend|ueberlebt|uberlebt|vivant|vivo",
    "hospital": "hospital|hosp|klinik|krankenhaus|hopital|spital",
    "admission": "admission|admitted|admit|adm|aufnahme|eintritt|ingreso",
    "discharge": "discharge|discharged|disch|entlassung|austritt|alta|sortie",
    "diabetes": "diabetes|diabetic|dm|diabetiker",
    "smoking": "smoking|smoker|smokes|smoke|tobacco|raucher|raucht|rauchen|tabac|fumeur|tabaco",
    "hypertension": "hypertension|htn|hypertonie|hypertonus|hypertensive",
    "stroke": "stroke|schlaganfall|apoplex|avc|cva",
    "infarction": "infarction|infarct|infarkt|heart attack|mi|infarctus|infarto",
    "cancer": "cancer|tumor|tumour|krebs|carcinoma|karzinom|malignancy",
    "time": "time|zeit|duration|dauer|follow up|followup|fu|observed|temps|tiempo",
    "event": "event|ereignis|evenement|evento",
    "status": "status|state|zustand",
    "year": "year|jahr|annee",
    "birth": "birth|geburt|dob|yob|geburtsdatum|geburtsjahr|naissance|nacimiento|geboortejaar",
    "yes": "yes|y|ja|j|oui|si|true|wahr|vrai|positive|positiv|pos|present|vorhanden",
    "no": "no|n|nein|non|false|falsch|faux|negative|negativ|neg|absent|none|nicht vorhanden",
    "male": "male|m|man|men|mann|mannlich|maennlich|homme|masculin|hombre|masculino",
    "female": "female|f|w|woman|women|frau|weiblich|femme|feminin|mujer|femenino",
}  # fmt: skip
"""What is meant: its spellings."""
LONG = {
    "sbp": "systolic blood pressure", "dbp": "diastolic blood pressure", "mbp": "mean blood pressure",
    "map": "mean arterial pressure", "nibp": "blood pressure", "hrmax": "max heart rate", "cad": "coronary disease",
    "chd": "coronary disease", "khk": "coronary disease", "los": "length stay", "chestpain": "chest pain",
    "brustschmerz": "chest pain", "thoraxschmerz": "chest pain", "icu": "intensive care", "its": "intensive care",
    "fbg": "fasting glucose", "fpg": "fasting glucose", "fbs": "fasting glucose",
    "nuechternglukose": "fasting glucose", "nuchternglukose": "fasting glucose",
    "nuechternblutzucker": "fasting glucose", "nuchternblutzucker": "fasting glucose",
}  # fmt: skip
"""One word, and the several that it stands for."""
AGAINST = (
    ("systolic", "diastolic"), ("systolic", "mean"), ("diastolic", "mean"), ("max", "min"), ("max", "mean"),
    ("min", "mean"), ("first", "last"), ("dead", "alive"), ("admission", "discharge"), ("urea", "urea nitrogen"),
    ("rest", "exercise"),
)  # fmt: skip
"""What is never the other."""
PAIRS = (
    ("0", "1"), ("n", "y"), ("n", "j"), ("no", "yes"), ("nein", "ja"), ("non", "oui"), ("no", "si"),
    ("false", "true"), ("f", "t"), ("neg", "pos"), ("negative", "positive"), ("negativ", "positiv"), ("-", "+"),
    ("absent", "present"), ("falsch", "wahr"),
)  # fmt: skip
"""Codes of no and yes that go together."""
SEXES = (
    ("f", "m"), ("w", "m"), ("female", "male"), ("woman", "man"), ("2", "1"), ("0", "1"),
    ("weiblich", "männlich"), ("weiblich", "maennlich"), ("frau", "mann"),  # German: w, m
    ("femme", "homme"), ("féminin", "masculin"), ("f", "h"),  # French
    ("vrouw", "man"), ("vrouwelijk", "mannelijk"), ("v", "m"),  # Dutch
    ("kvinna", "man"), ("kvinde", "mand"), ("kvinne", "mann"), ("k", "m"),  # Swedish, Danish, Norwegian
    ("mujer", "hombre"), ("femenino", "masculino"), ("m", "h"),  # Spanish
    ("mulher", "homem"), ("feminino", "masculino"), ("f", "h"),  # Portuguese
    ("donna", "uomo"), ("femmina", "maschio"), ("femminile", "maschile"),  # Italian: f, m
    ("kobieta", "mężczyzna"), ("k", "m"),  # Polish
    ("žena", "muž"), ("ženské", "mužské"), ("ž", "m"), ("z", "m"),  # Czech, Slovak; without its accent, too
    ("žensko", "muško"), ("ženski", "muški"), ("ženska", "moški"),  # Croatian, Slovene: ž, m
    ("nainen", "mies"), ("naine", "mees"), ("n", "m"),  # Finnish, Estonian
    ("n", "f"),  # Hungarian, whose word for woman is `no` without its accents
    ("femeie", "bărbat"), ("feminin", "masculin"), ("f", "b"),  # Romanian
    ("moteris", "vyras"), ("m", "v"),  # Lithuanian
    ("sieviete", "vīrietis"), ("s", "v"),  # Latvian
    ("γυναίκα", "άνδρας"), ("γ", "α"),  # Greek
    ("жена", "мъж"), ("ж", "м"),  # Bulgarian
)  # fmt: skip
"""Codes of female and male that go together: words for woman and man, or female and male, in languages of the European
Union and in Norwegian, as any dictionary has them, and the letters with which they begin. 1 and 2 are those of ISO/IEC
5218, 0 and 1 those of no standard. A letter may mean either: `m` is `moteris` (woman) in Lithuanian, and `f` is `férfi`
(man) in Hungarian.
"""
EMPTY = frozenset((
    "of", "in", "at", "the", "a", "an", "by", "and", "or", "with", "for", "on", "to", "from", "against", "is", "was",
    "as", "any", "than", "kind", "type", "typ", "value", "val", "values", "wert", "result", "res", "measured", "not",
    "de", "la", "le", "der", "die", "das", "des", "im", "bei", "der", "has", "had", "it", "its", "whether", "patient",
    "level", "lab", "serum", "plasma", "blood", "routine", "administrative",
))  # fmt: skip
"""Words that tell one column from another rarely, or never."""
KEYS = frozenset((
    "id", "nr", "no", "number", "key", "mrn", "case", "patient", "pat", "patnr", "pid", "patid", "fall", "fallnr",
    "subject", "record", "stay", "encounter", "uid", "uuid", "pseudonym", "person", "nummer", "studyid", "fallnummer",
))  # fmt: skip
"""Words in names of columns with a patient's key."""
UNIT_WORDS = {
    "mgdl": "mg/dL", "mgl": "mg/L", "gdl": "g/dL", "gl": "g/L", "mmoll": "mmol/L", "umoll": "umol/L",
    "µmoll": "umol/L", "μmoll": "umol/L", "nmoll": "nmol/L", "mmol": "mmol/L", "umol": "umol/L", "ngml": "ng/mL",
    "ugdl": "ug/dL", "ugl": "ug/L", "meql": "meq/L", "kg": "kg", "g": "g", "lb": "[lb_av]", "lbs": "[lb_av]",
    "m": "m", "cm": "cm", "mm": "mm", "inch": "[in_i]", "inches": "[in_i]", "in": "[in_i]", "mmhg": "mm[Hg]",
    "kpa": "kPa", "bpm": "/min", "permin": "/min", "1min": "/min", "celsius": "Cel", "degc": "Cel", "c": "Cel",
    "fahrenheit": "[degF]", "degf": "[degF]", "f": "[degF]", "years": "a", "year": "a", "yrs": "a", "yr": "a",
    "y": "a", "jahre": "a", "j": "a", "months": "mo", "month": "mo", "monate": "mo", "mo": "mo", "weeks": "wk",
    "wk": "wk", "days": "d", "day": "d", "tage": "d", "d": "d", "hours": "h", "hrs": "h", "h": "h", "std": "h",
    "minutes": "min", "min": "min", "percent": "%", "mmolmol": "mmol/mol", "pct": "%", "prozent": "%", "kul": "10*3/uL",
    "l": "L", "ml": "mL",
}  # fmt: skip
"""How names of columns end in a unit, without signs between; it counts only where it fits what the contract wants."""


def folded(text: str) -> str:
    """Lower case, without accents.

    >>> folded("Größe"), folded("Männlich")
    ('grosse', 'mannlich')
    """
    parts = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def _spellings() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for meant, spelt in SAME.items():
        for one in spelt.split("|"):
            found[one] = found.get(one, frozenset()) | {meant}
    return found


MEANT = _spellings()
"""What each spelling may mean; some mean several."""
LONGEST = max(spelling.count(" ") + 1 for spelling in MEANT)
"""Words of the longest spelling."""

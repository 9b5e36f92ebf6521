"""What a model is run over to find the ranges of its activations. Written for this project; like all of it, in several
languages and forms, for the outliers of a range are often those of a script, of code or of numbers."""

TEXTS = (
    "The harbor was quiet in the morning. Two boats came back with less fish than they had hoped for, and the man who "
    "weighed the boxes wrote 14.5 kg, 9 kg and 21.75 kg into his book. Why did they go out at all? Because nobody had "
    "told them that the storm was over.",
    "<question> What is the capital of France, and which river flows through it?\n<answer> The capital of France is "
    "Paris. The Seine flows through it, from the southeast to the northwest.\n\n1. Paris\n2. Lyon\n3. Marseille\n",
    "def mean(numbers: list[float]) -> float:\n    if not numbers:\n        raise ValueError('no numbers')\n    return "
    'sum(numbers) / len(numbers)\n\nfor x in range(3):\n    print(f"{x}: {mean([x, 2 * x]):.2f}")\n',
    "Im Winter fährt der Zug nur bis zur Brücke. Wer weiter will, geht die letzten drei Kilometer zu Fuß und sieht "
    "dabei, wie der Schnee auf den Dächern liegen bleibt.",
    "Le boulanger ouvre à six heures, et déjà quelques voisins l'attendent devant la porte. Il fait froid, mais "
    "l'odeur du pain chaud suffit à les retenir.",
    "La biblioteca está cerrada los lunes. ¿Quieres que te preste el libro? Son 320 páginas y se leen en dos tardes.",
    "أغلقت المدرسة أبوابها مبكرا بسبب المطر، وعاد الأطفال إلى بيوتهم وهم يضحكون تحت المظلات الملونة.",
    "雨停了,孩子们跑到院子里。老师说:“明天我们去博物馆,请记得带午饭。”",
    "Поезд опоздал на сорок минут, и на вокзале стало тесно. Кто-то читал газету, кто-то спал на чемодане.",
    '{"name": "Anna", "age": 31, "tags": ["reader", "cyclist"], "address": {"city": "Doha", "zip": null}}',
)

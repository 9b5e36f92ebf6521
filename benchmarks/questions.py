"""What visitors send: questions of every kind, with the pattern by which an answer is known to be right."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from falcon_runtime.models.catalog import EXAMPLES

Check = str | Callable[[str], bool]


@dataclass(frozen=True)
class Question:
    """One thing to ask, in one tab."""

    tab: Literal["chat", "instruct", "generate"]
    kind: str
    prompt: str
    right: Check
    """A pattern that is found in right answers, whatever the case, or a function that tells them."""
    context: str = ""
    """Of Instruct: the text to work on."""
    before: tuple[str, ...] = ()
    """Of Chat: the turns before, the visitor's first."""
    language: str = "English"

    def accepts(self, answer: str) -> bool:
        if callable(self.right):
            return self.right(answer)
        return re.search(self.right, answer, re.IGNORECASE) is not None


def words(least: int, most: int = 10_000, pattern: str = "") -> Check:
    """Tells answers of so many words, in which the pattern is found."""
    return lambda answer: least <= len(answer.split()) <= most and re.search(pattern, answer, re.IGNORECASE) is not None


def items(least: int, most: int = 100, pattern: str = "") -> Check:
    """Tells answers with so many items: lines with a number or a bullet, else parts between commas."""

    def check(answer: str) -> bool:
        listed = len(re.findall(r"^\s*(?:\d+[.):]|[-*•])\s*\S", answer, re.MULTILINE))
        count = listed or len(re.split(r",\s*(?:and\s+)?|\s+and\s+|\n+", answer.strip()))
        return least <= count <= most and re.search(pattern, answer, re.IGNORECASE) is not None

    return check


PLAINEST = {
    "What is the capital of France?": r"\bParis\b",
    "What is the capital of Germany?": r"\bBerlin\b",
    "What is the capital of Italy?": r"\bRome\b",
    "What is the capital of Spain?": r"\bMadrid\b",
    "What is the capital of Japan?": r"\bTokyo\b",
    "What is the capital of China?": r"\bBeijing\b",
    "What is the capital of Russia?": r"\bMoscow\b",
    "What is the capital of India?": r"\bDelhi\b",
    "What is the capital of Egypt?": r"\bCairo\b",
    "What is the capital of the United Kingdom?": r"\bLondon\b",
    "What is the capital of the United States?": r"\bWashington\b",
    "What is the capital of Mexico?": r"\bMexico City\b",
    "What day comes after Monday?": r"\bTuesday\b",
    "Which day comes after Saturday?": r"\bSunday\b",
    "How many days are there in a week?": r"\bseven\b|\b7\b",
    "How many months are in a year?": r"\btwelve\b|\b12\b",
    "What color is the sky on a clear day?": r"\bblue\b",
    "What color is grass?": r"\bgreen\b",
    "What color is snow?": r"\bwhite\b",
    "What colour is a ripe banana?": r"\byellow\b",
    "What is the opposite of hot?": r"\bcold\b|\bcool\b",
    "What is the opposite of big?": r"\bsmall\b|\blittle\b",
    "What is the opposite of up?": r"\bdown\b",
    "What is the opposite of day?": r"\bnight\b",
}

FACTS = {
    "Who wrote Romeo and Juliet?": r"Shakespeare",
    "What is the largest planet in the solar system?": r"Jupiter",
    "Which planet do we live on?": r"Earth",
    "What is the chemical symbol of water?": r"H2O|H₂O",
    "What is the largest ocean on Earth?": r"Pacific",
    "How many legs does a spider have?": r"\beight\b|\b8\b",
    "Who painted the Mona Lisa?": r"Leonardo|Vinci",
    "In which country are the pyramids of Giza?": r"Egypt",
    "What is 2 + 2?": r"\b4\b|\bfour\b",
    "What is the boiling point of water in degrees Celsius?": r"\b100\b",
    "Who was the first president of the United States?": r"Washington",
    "What gas do plants take in from the air?": r"carbon dioxide|CO2|CO₂",
    "What is the capital of Canada?": r"Ottawa",
    "What is the capital of Brazil?": r"Bras[ií]lia",
    "What is the capital of Australia?": r"Canberra",
    "Which animal is known as the king of the jungle?": r"\blion\b",
}

_ARTICLE = EXAMPLES.instruct["Summarise"][1]
_LETTER = (
    "Hi team, the printer on the second floor is broken again. The technician comes on Thursday at 10. Until then "
    "please use the one next to the kitchen. Bring your own paper, since ours ran out yesterday. Maria"
)

QUESTIONS: list[Question] = [
    *(Question("chat", "plainest facts", prompt, right) for prompt, right in PLAINEST.items()),
    *(Question("chat", "facts", prompt, right) for prompt, right in FACTS.items()),
    Question("chat", "greetings", "Hi", words(2, 80, r"\bhello\b|\bhi\b|help|assist|how can|welcome")),
    Question("chat", "greetings", "Hello!", words(2, 80, r"\bhello\b|\bhi\b|help|assist|how can|welcome")),
    Question("chat", "greetings", "Good morning, how are you?", words(3, 80, r"morning|\bwell\b|good|fine|great|help")),
    Question("chat", "greetings", "Thank you!", words(2, 80, r"welcome|glad|happy|thank|pleasure|help")),
    Question("chat", "greetings", "Who are you?", words(3, 100, r"\bI am\b|\bI'm\b|assistant|model")),
    Question("chat", "lists", "Name three fruits.", items(3, 8, r"apple|banana|orange|mango|grape|strawberr|pear")),
    Question("chat", "lists", "List three primary colors.", items(3, 6, r"red.*|blue.*")),
    Question("chat", "lists", "Name five animals.", items(5, 10, r"dog|cat|lion|elephant|tiger|bear|horse|cow")),
    Question("chat", "lists", "Give me three tips for better sleep.", items(3, 12, r"sleep|bed|night")),
    Question("chat", "lists", "What are the four seasons?", items(4, 8, r"winter.*|summer.*")),
    Question("chat", "lists", "List the days of the week.", r"Monday[\s\S]*Wednesday[\s\S]*Friday[\s\S]*Sunday"),
    Question("chat", "writing", "Tell me a short story about a brave falcon.", words(60, 700, "falcon")),
    Question("chat", "writing", "Write a short story about a lost dog.", words(60, 700, "dog")),
    Question("chat", "writing", "Write a poem about the sea.", words(20, 400, r"sea|wave|ocean")),
    Question("chat", "writing", "Write a haiku about spring.", words(5, 60)),
    Question("chat", "writing", "Explain photosynthesis to a ten-year-old.", words(25, 400, r"plant.*|sun.*|light")),
    Question("chat", "writing", "Explain how rain forms.", words(20, 400, r"water|vapou?r|cloud")),
    Question("chat", "code", "Write a Python function that adds two numbers.", r"def \w+\(\w+, ?\w+\)[\s\S]*return"),
    Question("chat", "code", "Write a Python program that prints Hello World.", r"print\(\s*[\"']Hello,? World"),
    Question("chat", "code", "Write a Python function that reverses a string.", r"def \w+\([\s\S]*(\[::-1\]|reversed)"),
    Question("chat", "code", "How do I make a list in Python?", r"\[.*\]|list\("),
    Question("chat", "languages", "¿Cuál es la capital de España?", r"Madrid", language="Spanish"),
    Question("chat", "languages", "Quelle est la capitale de la France ?", r"Paris", language="French"),
    Question("chat", "languages", "Was ist die Hauptstadt von Deutschland?", r"Berlin", language="German"),
    Question("chat", "languages", "Qual è la capitale d'Italia?", r"Roma|Rome", language="Italian"),
    Question("chat", "languages", "Bonjour, comment ça va ?", words(2, 80), language="French"),
    Question("chat", "languages", "How do you say thank you in French?", r"merci"),
    Question("chat", "languages", "How do you say hello in Spanish?", r"hola"),
    Question("chat", "follow-ups", "And of Greece?", "Athens",
             before=("What is the capital of France?", "The capital of France is Paris.")),
    Question("chat", "follow-ups", "And the capital of Germany?", "Berlin",
             before=("What is the capital of France?", "Paris is the capital of France.")),
    Question("chat", "follow-ups", "What is my name?", r"\bSam\b",
             before=("My name is Sam.", "Nice to meet you, Sam!")),
    Question("chat", "follow-ups", "Make it shorter.", words(2, 40, r"dog|ran|home"),
             before=("Tell me about a dog.", "A big brown dog ran through the long streets of the old town, looked "
                     "into every garden, and in the evening came home to its family, tired and very happy.")),
    Question("chat", "follow-ups", "Which of them is yellow?", "banana",
             before=("Name three fruits.", "Apple, banana and cherry.")),
    Question("instruct", "summaries", "Summarise the text in one short sentence.", words(5, 60, "falcon"), _ARTICLE),
    Question("instruct", "summaries", "What is this text about?", words(2, 90, "falcon"), _ARTICLE),
    Question("instruct", "summaries", "Summarise this email in one sentence.", words(5, 60, "printer"), _LETTER),
    Question("instruct", "facts in a text", "How fast was the bird?", r"\b389\b", _ARTICLE),
    Question("instruct", "facts in a text", "What was the bird called?", r"Frightful", _ARTICLE),
    Question("instruct", "facts in a text", "When does the technician come?", r"Thursday", _LETTER),
    Question("instruct", "facts in a text", "What is broken?", r"printer", _LETTER),
    Question("instruct", "facts in a text", "Who wrote this email?", r"Maria", _LETTER),
    Question("instruct", "lists", "List three facts from the text.", items(3, 8, "falcon|bird|389"), _ARTICLE),
    Question("instruct", "lists", "Write three questions that the text answers.",
             lambda answer: 2 <= answer.count("?") <= 10, _ARTICLE),
    Question("instruct", "rewriting", "Explain the text to a ten-year-old.", words(20, 300, "falcon|bird"), _ARTICLE),
    Question("instruct", "rewriting", "Write a short, friendly reply to this email.",
             words(5, 200, r"\bhi\b|dear|thank|maria|printer"), _LETTER),
    Question("instruct", "rewriting", "Correct the spelling.", r"I have two cats",
             "I hav two cats."),
    Question("instruct", "rewriting", "Turn this into the past tense.", r"\bwalked\b", "She walks to school."),
    Question("instruct", "rewriting", "Write this in capital letters.", r"HELLO WORLD", "hello world"),
    Question("instruct", "rewriting", "Translate to French.", r"bonjour|salut", "Hello, my friend."),
    Question("instruct", "classifying", "Is this review positive or negative?", r"\bpositive\b",
             "I loved this film. The actors were great and the ending was perfect."),
    Question("instruct", "classifying", "Is this review positive or negative?", r"\bnegative\b",
             "This was the worst hotel ever. Dirty, loud and far too expensive."),
    Question("generate", "continuing",
             "Once upon a time, in a village at the edge of the desert, there lived a girl who", words(40)),
    Question("generate", "continuing", "Why the desert sky is so dark at night\n\nFar from any city,", words(40)),
    Question("generate", "continuing", "The capital of France is", r"^\W*Paris"),
    Question("generate", "continuing", "1, 2, 3, 4, 5,", r"^\s*6, 7, 8"),
    Question("generate", "continuing", "import math\n\ndef area_of_circle(radius):\n", r"return .*pi.*radius"),
    Question("generate", "continuing", "Three reasons to learn a new language:\n\n1.", r"2\.[\s\S]*3\."),
    Question("generate", "continuing", "The sun rises in the", r"^\W*east"),
    Question("generate", "continuing", "My favourite season is summer because", words(10)),
]  # fmt: skip

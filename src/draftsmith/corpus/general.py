"""Two dozen everyday requests, written for Draftsmith: (kind, text). They show whether a narrow draft slows other work."""

GENERAL_PROMPTS: tuple[tuple[str, str], ...] = (
    ("chat", "What should I look at before buying a used bicycle?"),
    ("chat", "Explain to a ten-year-old why the sea is salty."),
    ("chat", "Give me five ideas for a rainy Sunday with two small children."),
    ("chat", "I want to sleep better. Which three habits matter most, and why?"),
    ("chat", "Compare working from home with working in an office, in one paragraph each."),
    ("chat", "Write a short, friendly invitation to a street party in June."),
    ("knowledge", "Who decides the interest rate of a central bank, and what does it change?"),
    ("knowledge", "Describe how a refrigerator moves heat from the inside to the outside."),
    ("knowledge", "What is the difference between weather and climate?"),
    ("knowledge", "Name the planets of the solar system with one fact about each."),
    ("code", "Write a Python function that returns the second largest number of a list."),
    ("code", "Show a JavaScript function that counts how often each word occurs in a string."),
    ("code", "Write a SQL query that lists the ten customers with the highest total of orders."),
    ("code", "Explain what a deadlock is and show one in a few lines of Python."),
    ("math", "A train leaves at 9:40 and arrives at 13:05. It stops twice for 7 minutes. How long does it move?"),
    ("math", "A shirt costs 36 euros after a discount of 20 percent. What was its price before?"),
    ("math", "How many different ways are there to seat four people in a row of four chairs? Explain."),
    ("translate", "Translate into German: The library is closed on Mondays, but the reading room stays open."),
    ("translate", "Translate into French: Could you tell me which platform the next train leaves from?"),
    ("translate", "Translate into Spanish: We will send you the invoice once the order has been delivered."),
    ("rewrite", "Make this sentence more polite: You have not answered my letter and I am tired of waiting."),
    ("rewrite", "Correct the mistakes: Their going too there house because there dog have ran away yesterday."),
    ("summarise", "Summarise in one sentence: The town council met on Tuesday. After three hours it agreed to close the "
     "market square to cars at weekends, starting in spring, and to add two bus stops at its edges."),
    ("extract", "List the names and dates in this note as JSON: Anna leaves on 3 May, Tom follows on 9 May, and both "
     "return on 20 May."),
)  # fmt: skip

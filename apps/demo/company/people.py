"""The sixty people of Harbourline and who reports to whom. Managers stand before their people, the cast first."""

import unicodedata

from apps.demo.company.model import Person

DOMAIN = "harbourline.example"


def email(name: str) -> str:
    """A person's e-mail from the full name: `Siobhán O'Connell` has siobhan.oconnell@harbourline.example."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    given, _, family = plain.partition(" ")
    return f"{given}.{''.join(letter for letter in family if letter.isalnum())}@{DOMAIN}"


# given name, family name, title, department, manager
_ROWS = (
    ("Ingrid", "Halvorsen", "Chief executive", "Executive", ""),
    ("Marisol", "Vega", "Chief technology officer", "Executive", "Ingrid Halvorsen"),
    ("Rosalind", "Whitlock", "General counsel", "Executive", "Ingrid Halvorsen"),
    ("Carol", "Okafor", "Head of platform", "Platform", "Marisol Vega"),
    ("Sunil", "Ramanathan", "Head of product engineering", "Product engineering", "Marisol Vega"),
    ("Alice", "Moreau", "Site reliability engineer, payments", "Payments", "Carol Okafor"),
    ("Bob", "Lindqvist", "Payments lead", "Payments", "Sunil Ramanathan"),
    ("Dan", "Petrov", "Internal auditor", "Internal audit", "Rosalind Whitlock"),
    ("Erin", "Walsh", "Cloud platform administrator", "Platform", "Carol Okafor"),
    ("Farid", "Haddad", "Security lead", "Security", "Marisol Vega"),
    ("Elena", "Marković", "Booking lead", "Booking", "Sunil Ramanathan"),
    ("Mallory", "Quinn", "Contract developer", "Booking", "Elena Marković"),
    ("Viktor", "Sandoval", "Database consultant", "Platform", ""),
    ("Jonas", "Rautio", "Platform lead", "Platform", "Carol Okafor"),
    ("Owen", "Prichard", "Site reliability engineer", "Platform", "Carol Okafor"),
    ("Nadia", "Benali", "Site reliability engineer", "Platform", "Carol Okafor"),
    ("Hamza", "Yusuf", "Network engineer", "Platform", "Carol Okafor"),
    ("Tove", "Nyström", "Release manager", "Platform", "Carol Okafor"),
    ("Aiko", "Tanaka", "Senior site reliability engineer", "Platform", "Jonas Rautio"),
    ("Kwame", "Boateng", "Platform engineer", "Platform", "Jonas Rautio"),
    ("Lucía", "Fernández", "Platform engineer", "Platform", "Jonas Rautio"),
    ("Mei-Ling", "Chow", "Security engineer", "Security", "Farid Haddad"),
    ("Patrick", "Devlin", "Security engineer", "Security", "Farid Haddad"),
    ("Anneke", "de Vries", "Identity engineer", "Security", "Farid Haddad"),
    ("Yara", "Costa", "Senior engineer", "Payments", "Bob Lindqvist"),
    ("Marek", "Kowalczyk", "Engineer", "Payments", "Bob Lindqvist"),
    ("Priya", "Nair", "Engineer", "Payments", "Bob Lindqvist"),
    ("Callum", "Fraser", "Engineer", "Payments", "Bob Lindqvist"),
    ("Fatou", "Diallo", "Junior engineer", "Payments", "Bob Lindqvist"),
    ("Theo", "Papadakis", "Senior engineer", "Booking", "Elena Marković"),
    ("Hannah", "Goldberg", "Engineer", "Booking", "Elena Marković"),
    ("Bảo", "Nguyễn", "Engineer", "Booking", "Elena Marković"),
    ("Ravi", "Shankaran", "Engineer", "Booking", "Elena Marković"),
    ("Gunnar", "Eide", "Freight lead", "Freight", "Sunil Ramanathan"),
    ("Amara", "Osei", "Engineer", "Freight", "Gunnar Eide"),
    ("Pilar", "Ortega", "Senior engineer", "Freight", "Gunnar Eide"),
    ("Siobhán", "O'Connell", "Engineer", "Freight", "Gunnar Eide"),
    ("Dmitri", "Volkov", "Mobile engineer", "Booking", "Sunil Ramanathan"),
    ("Leila", "Farahani", "Head of data", "Data", "Marisol Vega"),
    ("Samuel", "Adeyemi", "Data engineering lead", "Data", "Leila Farahani"),
    ("Chiara", "Romano", "Data engineer", "Data", "Samuel Adeyemi"),
    ("Björn", "Aaltonen", "Data engineer", "Data", "Samuel Adeyemi"),
    ("Grace", "Muthoni", "Senior data analyst", "Data", "Leila Farahani"),
    ("Noah", "Feldman", "Data analyst", "Data", "Leila Farahani"),
    ("Xin", "Zhao", "Data analyst", "Data", "Leila Farahani"),
    ("Desmond", "Achebe", "Chief financial officer", "Executive", "Ingrid Halvorsen"),
    ("Beatrice", "Fontaine", "Financial controller", "Finance", "Desmond Achebe"),
    ("Gareth", "Hughes", "Cloud cost analyst", "Finance", "Beatrice Fontaine"),
    ("Olena", "Shevchenko", "Accountant", "Finance", "Beatrice Fontaine"),
    ("Henrike", "Brandt", "Chief operating officer", "Executive", "Ingrid Halvorsen"),
    ("Tariq", "Mansour", "Head of customer support", "Support", "Henrike Brandt"),
    ("Joanna", "Wiśniewska", "Second line support lead", "Support", "Tariq Mansour"),
    ("Diego", "Álvarez", "Support engineer", "Support", "Joanna Wiśniewska"),
    ("Kalinda", "Perera", "Support engineer", "Support", "Joanna Wiśniewska"),
    ("Freya", "Lund", "Support engineer", "Support", "Joanna Wiśniewska"),
    ("Ibrahim", "Sesay", "Head of port operations", "Port operations", "Henrike Brandt"),
    ("Marta", "Silva", "Freight planner", "Port operations", "Ibrahim Sesay"),
    ("Conor", "Byrne", "Berth planner", "Port operations", "Ibrahim Sesay"),
    ("Zoë", "Marchetti", "Head of people", "People", "Ingrid Halvorsen"),
    ("Akira", "Watanabe", "Compliance officer", "Legal", "Rosalind Whitlock"),
)
_CONTRACTORS = {email("Mallory Quinn"), email("Viktor Sandoval")}

PEOPLE = tuple(
    Person(
        email=email(f"{given} {family}"),
        given_name=given,
        family_name=family,
        title=title,
        department=department,
        manager=email(manager) if manager else None,
        is_contractor=email(f"{given} {family}") in _CONTRACTORS,
    )
    for given, family, title, department, manager in _ROWS
)

# the people that documentation, tests and the sign-in page know by their first names
CAST = {
    "alice": email("Alice Moreau"),
    "bob": email("Bob Lindqvist"),
    "carol": email("Carol Okafor"),
    "dan": email("Dan Petrov"),
    "erin": email("Erin Walsh"),
    "farid": email("Farid Haddad"),
    "mallory": email("Mallory Quinn"),
}

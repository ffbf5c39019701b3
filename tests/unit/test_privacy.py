"""What may not go out in public is found however it is written, and ordinary answers are never refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.events import Part
from services.common.tenants import NumberForm
from services.router.privacy import Known, find, find_in_parts

CUSTOMER = (
    Known("order", "HV-10 4422"),
    Known("order", "1042"),
    Known("order", "17"),
    Known("phone", "+34612407782"),
    Known("email", "ana.ruiz@gmail.com"),
    Known("identifier", "ana_ruiz77"),
    Known("identifier", "martaglez"),
)
OWN = ("900 123 123", "hola@hervor.example", "+34 91 555 01 02", "Calle Mayor 1")
FORMS = (NumberForm("HV-######"), NumberForm("48###"), NumberForm("CL????###", "identifier"))

PRIVATE = [
    ("Tu teléfono es el 612 40 77 82, ¿verdad?", "phone", "612 40 77 82"),
    ("Llámame al 6 1 2 4 0 7 7 8 2", "phone", "6 1 2 4 0 7 7 8 2"),
    ("al +34 612-40-77-82", "phone", "+34 612-40-77-82"),
    ("al 0034612407782.", "phone", "0034612407782"),
    ("al 733 10 20 30", "phone", "733 10 20 30"),
    ("al (415) 555-2671", "phone", "(415) 555-2671"),
    ("ring 020 7946 0958", "phone", "020 7946 0958"),
    ("ref 25 - 733 10 20 30", "phone", "733 10 20 30"),
    ("siete tres tres uno cero dos cero tres cero", "phone", "siete tres tres uno cero dos cero tres cero"),
    ("https://wa.me/34733102030", "phone", "34733102030"),
    ("６１２ ４０ ７７ ８２", "phone", "６１２ ４０ ７７ ８２"),
    (
        "6\u200b1\u200b2\u200b4\u200b0\u200b7\u200b7\u200b8\u200b2",
        "phone",
        "6\u200b1\u200b2\u200b4\u200b0\u200b7\u200b7\u200b8\u200b2",
    ),
    ("pepe@correo.example", "email", "pepe@correo.example"),
    ("pepe arroba hotmail punto com", "email", "pepe arroba hotmail punto com"),
    ("pepe (arroba) hotmail (punto) com", "email", "pepe (arroba) hotmail (punto) com"),
    ("write to pepe at gmail dot com", "email", "pepe at gmail dot com"),
    ("pepe [at] firma.example", "email", "pepe [at] firma.example"),
    ("pepe @ firma . com", "email", "pepe @ firma . com"),
    ("j.perez＠gmail．com", "email", "j.perez＠gmail．com"),
    ("hola@hervor.example.mx", "email", "hola@hervor.example.mx"),
    ("ES91 2100 0418 4502 0005 1332", "iban", "ES91 2100 0418 4502 0005 1332"),
    ("es9121000418450200051332", "iban", "es9121000418450200051332"),
    ("4111 1111 1111 1111", "card", "4111 1111 1111 1111"),
    ("378282246310005", "card", "378282246310005"),
    ("vives en Calle Gran Vía, nº 12", "address", "Calle Gran Vía, nº 12"),
    ("c/ alcalá 45", "address", "c/ alcalá 45"),
    ("at 12 Baker Street", "address", "12 Baker Street"),
    ("CP 28013", "address", "CP 28013"),
    ("near SW1A 1AA", "address", "SW1A 1AA"),
    ("pedido h v 1-0-4-4-2-2", "order", "h v 1-0-4-4-2-2"),
    ("pedido HV-000123", "order", "HV-000123"),
    ("tu pedido 1042 sale hoy", "order", "1042"),
    ("pedido1042", "order", "1042"),
    ("Nº48213", "order", "48213"),
    ("el 48, el 48213", "order", "48213"),
    ("pedido 48213 € 39", "order", "48213"),
    ("pedido ❹❽➁❶❸", "order", "❹❽➁❶❸"),
    ("pedido 4 8 2 1 3", "order", "4 8 2 1 3"),
    ("H\u200bV\u00ad-１２３\u2060４５６", "order", "H\u200bV\u00ad-１２３\u2060４５６"),
    ("cliente cl-abcd-123", "identifier", "cl-abcd-123"),
    ("al 6    1    2    4    0    7    7    8    2", "phone", "6    1    2    4    0    7    7    8    2"),
    ("al 733.....10.....20.....30", "phone", "733.....10.....20.....30"),
    ("el pedido nº 17", "order", "17"),
    ("usuario Ana Ruiz 77", "identifier", "Ana Ruiz 77"),
    ("eres martaglez, ¿no?", "identifier", "martaglez"),
]

ORDINARY = """
Sentimos lo del hervidor, Marta. Te acabamos de escribir por privado para arreglarlo hoy. — LP
Sorry about the kettle, Martha. We have just written to you privately to put it right today. — LP
Resuelto con Marta por privado. Gracias por avisarnos.
El Alba 1,7 L cuesta 39,90 € y tiene 2 años de garantía.
Abrimos de 10:30 a 14:00 y de 17:00 a 20:30, de lunes a viernes.
Te contestamos en menos de 24 h.
Lo tienes en 24-48 h; los pedidos de más de 50 € no pagan envío.
Escríbenos a hola@hervor.example o llama al 900 123 123.
Nuestro teléfono es el +34 900 123 123, y el de la tienda el 91 555 01 02.
Estamos en Calle Mayor 1, junto a la plaza.
El vuelo es el 22/10/2026 a las 10:42 y cuesta 1.299,00 €.
Los modelos 610, 620 y 630 comparten filtro.
Tallas disponibles: 36, 38, 40, 42, 44.
Llevamos en la calle Mayor desde hace 2 años, y en la avenida desde 2019.
De 2019 a 2024 vendimos 120.000 hervidores.
Consume 1500 W a 220-240 V y pesa 1,2 kg.
Uno de los dos filtros, o los tres, se cambian cada seis meses.
Es un punto débil que conocemos; el punto de recogida abre a las 9.
Publicado el 2026-11-22 10:30, actualizado el 23.11.2026.
Son 3 x 2 en filtros; el segundo al 50 %.
Gracias, @marta.lopez: lo miramos hoy mismo.
El 15 de marzo de 2026 cambiamos de proveedor.
Meet us at hervor.example/help or at our shop, 9am to 5pm.
Our shop at the corner opens at 10.30 and closes at 20.00.
It took us 12 months on the road and 3 people to get there.
The Alba 2 holds 1.7 litres, the Alba 3 holds 0.9 l.
We had one or two of them; three or four people asked.
Version 10.4.2 of the app is out since 2026-03-01.
Costs £39.99, €45 or $49.50, about 10 % less than in 2025.
Dial in from 8:00 to 16:00, we are about 5 minutes from the square.
100 años de historia, 4,8 estrellas y 12.500 opiniones.
El calor en el camino, 24 horas sin parar: 40 grados.
Pedido mínimo de 17 unidades; a las 17 cerramos; quedan 1042W de margen y 10,42 €.
Mide 20 x 30 x 45 cm y cabe en 2 tazas.
Semana 47, del 16 al 22 de noviembre.
El libro tiene el ISBN 978-84-376-0494-7 y el filtro el EAN 8412345678905.
Cuesta 48.213 € con envío, y en 2025 costaba 48 100 €.
Filtro de 3 etapas, 0,5 micras, pH 7,4 y 250 ml por minuto.
""".strip().splitlines()


@pytest.mark.parametrize(("text", "kind", "piece"), PRIVATE)
def test_private_data_is_found_where_it_stands(text: str, kind: str, piece: str) -> None:
    found = find(text, CUSTOMER, OWN, FORMS)

    assert (kind, piece) in [(one.kind, one.text) for one in found]
    assert all(text[one.start : one.end] == one.text for one in found)


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_answer_is_not_refused(text: str) -> None:
    assert find(text, CUSTOMER, OWN, FORMS) == []


@given(st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=6))
def test_ordinary_answers_put_together_are_not_refused(sentences: list[str]) -> None:
    assert find("\n".join(sentences), CUSTOMER, OWN, FORMS) == []


SEPARATORS = st.text(" .-_/·:,()\u200b\u00ad\u2060\t\n|*–", max_size=4)
VALUES = st.tuples(st.sampled_from(string.digits), st.text(string.ascii_letters + string.digits, min_size=5, max_size=24)).map(
    "".join
)


def wide(character: str) -> str:
    return chr(ord(character) + 0xFEE0)


@given(VALUES, st.text(max_size=40), st.text(max_size=40), st.data())
def test_a_known_value_is_found_in_any_text_with_any_separators(
    value: str, before: str, after: str, data: st.DataObject
) -> None:
    drawn = [data.draw(st.sampled_from((one, one.upper(), one.lower(), wide(one)))) + data.draw(SEPARATORS) for one in value]
    written = "".join(drawn).rstrip("".join(c for c in "".join(drawn) if not c.isalnum()))
    text = f"{before} {written} {after}"

    found = find(text, [Known("order", value)])

    start = len(before) + 1
    assert any(one.start <= start and one.end >= start + len(written) for one in found)


@given(st.integers(10**8, 10**9 - 1), st.lists(SEPARATORS, min_size=9, max_size=9))
@example(612407782, [" ", "", "", " ", "", "\n\n\n", "", " ", ""])
def test_a_known_phone_number_is_found_in_its_national_form(national: int, separators: list[str]) -> None:
    written = "".join(digit + gap for digit, gap in zip(str(national), separators, strict=True))

    assert find(f"Te llamamos al {written}", [Known("phone", f"+34{national}")])


@given(st.text(max_size=300), st.lists(VALUES, max_size=3))
def test_whatever_the_text_findings_are_pieces_of_it_in_order(text: str, values: list[str]) -> None:
    found = find(text, [Known("order", one) for one in values], OWN, FORMS)

    assert all(one.text == text[one.start : one.end] and one.text for one in found)
    assert [one.start for one in found] == sorted(one.start for one in found)


def test_only_the_whole_of_the_tenants_own_data_is_excused() -> None:
    assert find("900 123 123", own=OWN) == []
    assert find("900 123 123 45", own=OWN) == [] or find("900 123 123 45", own=OWN)[0].text != "900 123 123"
    assert [one.text for one in find("xhola@hervor.example", own=OWN)] == ["xhola@hervor.example"]
    assert [one.text for one in find("hola@hervor.example y ana@hervor.example", own=OWN)] == ["ana@hervor.example"]


def test_every_part_and_field_of_a_message_is_checked() -> None:
    parts = [
        Part("text", "Hola, Marta"),
        Part("image", text="Factura de 612 40 77 82", ref="media-612407782", name="HV-104422.pdf"),
        Part("buttons", data={"0": "Llamar al 612407782"}),
        Part("link", text="aquí", ref="https://hervor.example/?p=HV%2D10%2D4422"),
        Part("template", data={"name": "aviso", "1": "ana.ruiz@gmail.com"}),
    ]

    found = {(one.part, one.field, one.found.kind) for one in find_in_parts(parts, CUSTOMER, OWN, FORMS)}

    assert found == {
        (1, "text", "phone"),
        (1, "name", "order"),
        (2, "data.0", "phone"),
        (3, "ref", "order"),
        (4, "data.1", "email"),
    }


def test_a_known_value_cut_into_two_parts_is_found_where_it_begins() -> None:
    parts = [Part("text", "Tu pedido es HV 10"), Part("text", "4422, sale hoy")]

    [one] = find_in_parts(parts, CUSTOMER)

    assert (one.part, one.field, one.found.text) == (0, "text", "HV 10")


@pytest.mark.parametrize(
    ("texts", "kind", "piece"),
    [
        (("es el 733 10", "20 30"), "phone", "733 10"),
        (("escribe a pepe", "@gmail.com"), "email", "pepe"),
        (("pedido HV-", "123456"), "order", "HV-"),
        (("4111 1111", "1111 1111"), "card", "4111 1111"),
    ],
)
def test_what_is_cut_into_two_parts_is_found_whoever_it_belongs_to(texts: tuple[str, str], kind: str, piece: str) -> None:
    [one] = find_in_parts([Part("text", text) for text in texts], (), (), FORMS)

    assert (one.part, one.found.kind, one.found.text) == (0, kind, piece)


@given(st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=6))
def test_ordinary_answers_in_parts_are_not_refused(sentences: list[str]) -> None:
    assert find_in_parts([Part("text", one) for one in sentences], CUSTOMER, OWN, FORMS) == []


def test_short_choices_side_by_side_are_no_number() -> None:
    sizes = {str(n): size for n, size in enumerate(("612", "407", "782", "36", "38", "40"))}

    assert find_in_parts([Part("buttons", "Elige talla", data=sizes), Part("text", "610"), Part("text", "Gracias")]) == []


@pytest.mark.parametrize(
    "text", ["pepe&#64;gmail.com", "pepe%40gmail.com", "733&nbsp;10&nbsp;20&nbsp;30", "733%2010%2020%2030"]
)
def test_what_a_browser_would_show_is_found(text: str) -> None:
    [one] = find_in_parts([Part("text", text)])

    assert one.found.text == text


def test_a_form_that_would_match_ordinary_words_is_refused() -> None:
    for form in ("##", "????", "(#+)+#", ""):
        with pytest.raises(ValueError, match="form"):
            NumberForm(form)


HOSTILE = (
    "a",
    "1",
    "1 ",
    "612 40 77 8 ",
    "a@",
    "a.",
    "a@a.",
    "+1",
    "calle a ",
    "1 a a a ",
    "1/1/",
    "\u200b",
    "６",
    "a arroba ",
)
MORE_HOSTILE = ("uno ", "es91", "4111 ", " ", "10:30 ", " ( at", "1_", "17 ", "E1 1", " at ", "\ufdfa", "900 123 123 ", "1042 ")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("unit", HOSTILE + MORE_HOSTILE)
def test_a_hostile_text_of_60_000_characters_is_read_to_its_end(unit: str) -> None:
    """About a second at most; anything quadratic takes minutes and ends in the time limit."""
    found = find(unit * (60_000 // len(unit)) + " pepe@correo.example", CUSTOMER, OWN, FORMS)

    assert found[-1].text.endswith("pepe@correo.example")

"""The tables and figures of the documentation are those of the recorded results."""

import pytest

from benchmarks.pictures import draw, shown_figures
from benchmarks.tables import main, pages


def test_every_table_is_up_to_date_and_every_figure_is_there():
    main(["--check"])
    figures = list(shown_figures(pages()))
    assert figures
    assert [str(image) for image, _, _ in figures if not image.exists()] == []


def test_a_changed_table_is_noticed_and_written_again(tmp_path):
    page, text = tmp_path / "page.md", "before\n\n<!-- table: main -->\n| old |\n<!-- end -->\n\nafter\n"
    page.write_text(text)
    with pytest.raises(SystemExit, match="page.md"):
        main([str(page), "--check"])
    assert page.read_text() == text
    main([str(page)])
    assert page.read_text().startswith("before\n\n<!-- table: main -->\n\n| huffpost |")
    assert page.read_text().endswith("<!-- end -->\n\nafter\n")
    main([str(page), "--check"])


@pytest.mark.parametrize("text", ["<!-- table: unknown -->\n<!-- end -->\n", "<!-- table: main -->\n"])
def test_markers_that_cannot_be_used_are_refused(tmp_path, capsys, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit):
        main([str(page)])
    assert "page.md" in capsys.readouterr().err


def test_a_figure_is_drawn_where_the_page_links_to_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("![Accuracy](images/main-dots.png) ![Logo](images/logo.png)\n")
    assert draw([page]) == [tmp_path / "images" / "main-dots.png"]
    assert (tmp_path / "images" / "main-dots.png").read_bytes().startswith(b"\x89PNG")

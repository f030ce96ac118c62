"""The dashboard: what was measured, read from the records under `runs/`.

    edgebnn app [--runs FOLDER]                     streamlit run app/main.py [-- --runs FOLDER]

No figure is shown that is not in a record.
"""

import streamlit as st

# Streamlit runs this file as a script, so it names its own package in full.
from edgebnn.app import shell
from edgebnn.app.views import choose, compare, history, model, watch

# The pages by their name in the address. The first one has none. Pages have no icons: a browser would fetch the icon
# of the open page from a server of Google's.
PAGES = {
    "choose": (choose.show, "Choose"),
    "compare": (compare.show, "Compare"),
    "model": (model.show, "Model"),
    "history": (history.show, "History"),
    "runs": (watch.show, "Runs"),
}


def main() -> None:
    st.set_page_config("edgebnn", layout="wide")
    st.html(shell.STYLE)
    pages = {
        name: st.Page(show, title=title, url_path=name, default=name == "choose")
        for name, (show, title) in PAGES.items()
    }
    st.session_state["pages"] = pages
    page = st.navigation(list(pages.values()), position="top")
    found = shell.snapshot()
    shell.complain(found)
    if found.found:
        page.run()
    else:
        shell.no_records()
    shell.follow(found.number)


if __name__ == "__main__":
    main()

"""The pages, one a file. The folder is not called `pages`: Streamlit runs the files of such a folder by itself."""

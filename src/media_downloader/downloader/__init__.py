"""All that knows yt-dlp. Only what runs inside the download process imports it."""

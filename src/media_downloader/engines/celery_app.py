"""How Celery is set up: the broker carries doorbells, and nothing that may be lost."""

from celery import Celery
from kombu import Queue  # type: ignore[attr-defined]

from media_downloader.engines.broker_address import broker_address, broker_tls, is_amqp

#: The one task: it takes a job's id and runs the job.
TASK = "media_downloader.download"
QUEUE = "media-downloader"
#: Before every key that Celery makes in Redis, so that nobody takes them for jobs.
KEY_PREFIX = "media_downloader:broker:"


def make_app(broker_url: str, slots: int = 1) -> Celery:
    """Return the Celery app of server and workers; it connects to nothing yet. ``slots``: processes of a worker.

    Each setting has a measured reason. A message is acknowledged before its task runs and never redelivered: with late
    acknowledgement, Redis hands a task that runs longer than the visibility timeout to a second worker (4 starts of
    one 18 s task), and a worker's death would repeat a poisonous one without end (12 times in 15 s). What is lost
    is rung again by the scheduler, as the store knows which jobs are queued. Long tasks are not ended when the broker
    is gone: with that setting, they were stranded unacknowledged. Results, revocation and countdowns are not used.
    """
    app = Celery("media_downloader", broker=broker_address(broker_url), set_as_current=False)
    app.conf.update(
        broker_use_ssl=broker_tls(broker_url),
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_default_queue=QUEUE,
        task_queues=(Queue(QUEUE),),  # type: ignore[no-untyped-call]
        task_create_missing_queues=False,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.2, "interval_max": 0.5},
        task_time_limit=None,
        worker_pool="prefork",
        worker_concurrency=slots,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not is_amqp(broker_url),
        worker_max_tasks_per_child=200,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # On a busy machine a process needs longer than Celery's 4 seconds, and would be started anew for ever.
        worker_proc_alive_timeout=60,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
        broker_transport_options=_transport_options(broker_url),
    )
    return app


def _transport_options(broker_url: str) -> dict[str, object]:
    if is_amqp(broker_url):
        return {"confirm_publish": True}
    return {
        "global_keyprefix": KEY_PREFIX,
        "visibility_timeout": 3600,
        "socket_timeout": 30,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        # A connection that a firewall dropped silently is noticed (kombu#2548 made it work with redis-py 7 and later).
        "health_check_interval": 25,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    }
